"""Payments on absurd 0.5, which has durable tasks: a step's result is a checkpoint.

After absurd's documentation: "Python SDK", its steps decomposed into `begin_step` and
`complete_step` around the ledger, whose entry and checkpoint so share a transaction. Tuning: 2
processes of 8 workers each, a thread and a connection a worker, batches of 8, polling every 250 ms.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

import psycopg
from absurd_sdk import Absurd
from absurdctl import BUNDLED_SCHEMA_SQL

from steps.model import Payment
from tests.bench.peers.payment import (
    POST_DEBIT,
    Json,
    authorize,
    create_intent,
    debit,
    send_confirmation,
)
from tests.bench.peers.peer import Peer, SagaId, Starter, is_up, worker_dsn

WORKERS, BATCH, POLL = 8, 8, 0.25
QUEUE, TASK = "payments", "payment"


def install(dsn: str) -> None:
    """What `absurdctl init` and `absurdctl create-queue` do."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(BUNDLED_SCHEMA_SQL.encode())
        Absurd(connection, queue_name=QUEUE).create_queue()


@contextlib.contextmanager
def starter(dsn: str) -> Iterator[Starter]:
    """Spawns tasks within a transaction."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        absurd = Absurd(connection, queue_name=QUEUE)

        def start(payments: Sequence[Payment]) -> list[SagaId]:
            with connection.transaction():
                return [
                    absurd.spawn(TASK, payment.model_dump(mode="json"), queue=QUEUE)["task_id"]
                    for payment in payments
                ]

        yield start


def work(dsn: str) -> None:
    """Works until it is ended."""
    workers = [
        threading.Thread(target=_work, args=[dsn, number], daemon=True) for number in range(WORKERS)
    ]
    with is_up(dsn):
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()


def _work(dsn: str, number: int) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        absurd = Absurd(connection, queue_name=QUEUE)

        @absurd.register_task(TASK)
        def pay(payment: Json, context: Any) -> Json:
            saga = UUID(str(context.task_id))
            intent = context.step("create_intent", lambda: create_intent(saga, payment))
            context.step("authorize", lambda: authorize(intent))
            with connection.transaction():
                ledger = context.begin_step("update_ledger")
                if not ledger.done:
                    posted = connection.execute(POST_DEBIT, debit(saga, payment)).fetchone()
                    assert posted is not None, "post_debit returned no entry"
                    context.complete_step(ledger, posted[0])
            confirmation: Json = context.step("send_confirmation", lambda: send_confirmation(saga))
            return confirmation

        absurd.start_worker(
            worker_id=f"{os.getpid()}/{number}", batch_size=BATCH, poll_interval=POLL
        )


PEER = Peer(
    name="absurd",
    module="tests.bench.peers.with_absurd",
    distribution="absurd-sdk",
    earlier=175,
    sagas=(5_000, 700),
    install=install,
    starter=starter,
    completed="""
        select t.task_id as id, r.completed_at as ended_at
        from absurd.t_payments t join absurd.r_payments r on r.run_id = t.last_attempt_run
        where t.state = 'completed'
    """,
    results="select checkpoint_name from absurd.c_payments where status = 'committed'",
    leftovers="select task_id from absurd.t_payments where state <> 'completed'",
)

if __name__ == "__main__":
    work(worker_dsn())

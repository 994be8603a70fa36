"""Payments on DBOS Transact 3.4, which has durable workflows: a step's result is a checkpoint.

After DBOS's documentation: "Workflows", "Queues & Concurrency", "Transactions & Datasources" and
"DBOS Client"; the ledger's entry and its checkpoint are one transaction of the datasource. Tuning:
2 processes, worker_concurrency 8, polling every 50 ms, pools that hand out the connection used last
and do not ping it, the ledger's transaction READ COMMITTED as every other one here.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy
from dbos import DBOS, DBOSClient, DBOSConfig, SQLAlchemyDatasource
from psycopg.conninfo import conninfo_to_dict

from steps.model import Payment
from tests.bench.peers import payment as steps
from tests.bench.peers.payment import POST_DEBIT, Json
from tests.bench.peers.peer import Peer, SagaId, Starter, is_up, worker_dsn

CONCURRENCY, POLL = 8, 0.05
APPLICATION, VERSION = "bench", "1"
QUEUE, WORKFLOW = "payments", "payment"
POOL = {"pool_pre_ping": False, "pool_use_lifo": True}
LEDGER_POOL = {**POOL, "pool_size": CONCURRENCY, "max_overflow": 0}


def install(dsn: str) -> None:
    """The tables of DBOS and of its datasource, made by an application's launch, and the queue."""
    DBOS(config=_configuration(dsn, "install"))
    SQLAlchemyDatasource.create(_url(dsn)).engine.dispose()
    DBOS.launch()
    DBOS.register_queue(QUEUE, worker_concurrency=CONCURRENCY, polling_interval_sec=POLL)
    DBOS.destroy(destroy_registry=True)


@contextlib.contextmanager
def starter(dsn: str) -> Iterator[Starter]:
    """Enqueues workflows within a transaction."""
    engine = sqlalchemy.create_engine(_url(dsn), **LEDGER_POOL)
    client = DBOSClient(system_database_engine=engine, application_name=APPLICATION)

    def start(payments: Sequence[Payment]) -> list[SagaId]:
        sagas = [str(uuid4()) for _ in payments]
        with engine.begin() as connection:
            for saga, payment in zip(sagas, payments, strict=True):
                client.enqueue_in_transaction(
                    connection,
                    {"workflow_name": WORKFLOW, "queue_name": QUEUE, "workflow_id": saga},
                    payment.model_dump(mode="json"),
                )
        return list(sagas)

    try:
        yield start
    finally:
        client.destroy()
        engine.dispose()


def work(dsn: str) -> None:
    """Works until it is ended."""
    DBOS(config=_configuration(dsn, str(os.getpid())))
    ledger = SQLAlchemyDatasource.create(_url(dsn), engine_kwargs=LEDGER_POOL, run_migrations=False)

    @DBOS.step()
    def create_intent(payment: Json) -> Json:
        return steps.create_intent(_saga(), payment)

    @DBOS.step()
    def authorize(intent: Json) -> Json:
        return steps.authorize(intent)

    @ledger.transaction(isolation_level="READ COMMITTED")
    def update_ledger(payment: Json) -> Json:
        connection = ledger.sql_session().connection()
        entry: Json = connection.exec_driver_sql(
            POST_DEBIT, steps.debit(_saga(), payment)
        ).scalar_one()
        return entry

    @DBOS.step()
    def send_confirmation() -> Json:
        return steps.send_confirmation(_saga())

    @DBOS.workflow(name=WORKFLOW)
    def pay(payment: Json) -> Json:
        authorize(create_intent(payment))
        update_ledger(payment)
        confirmation: Json = send_confirmation()
        return confirmation

    DBOS.launch()
    with is_up(dsn):
        threading.Event().wait()


def _saga() -> UUID:
    return UUID(DBOS.workflow_id)


def _configuration(dsn: str, executor: str) -> DBOSConfig:
    return {
        "name": APPLICATION,
        "application_version": VERSION,
        "executor_id": executor,
        "system_database_url": _url(dsn),
        "db_engine_kwargs": POOL,
        "log_level": "WARNING",
    }


def _url(dsn: str) -> str:
    """SQLAlchemy's way to write a DSN."""
    parts: dict[str, Any] = conninfo_to_dict(dsn)
    url: str = sqlalchemy.URL.create(
        "postgresql+psycopg",
        username=parts.pop("user", None),
        password=parts.pop("password", None),
        database=parts.pop("dbname", None),
        query={name: str(value) for name, value in parts.items()},
    ).render_as_string(hide_password=False)
    return url


PEER = Peer(
    name="DBOS Transact",
    module="tests.bench.peers.with_dbos",
    distribution="dbos",
    earlier=50,
    sagas=(2_000, 200),
    install=install,
    starter=starter,
    completed="""
        select workflow_uuid as id, to_timestamp(completed_at / 1000.0) as ended_at
        from dbos.workflow_status where status = 'SUCCESS'
    """,
    results="select function_name from dbos.operation_outputs where output is not null",
    leftovers="select workflow_uuid from dbos.workflow_status where status <> 'SUCCESS'",
)

if __name__ == "__main__":
    work(worker_dsn())

"""Payments on procrastinate 3.10, which is a queue: the saga is a row, its next step a job.

After procrastinate's documentation: "Launch a worker", "Delete finished jobs" and the option
``connection`` of `Task.configure`, which defers a job in the caller's transaction. Tuning: 2
processes, concurrency 8, finished jobs deleted, uvloop, a pool of 4 connections for procrastinate
that does not check them, and one for each handler.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any, LiteralString

import psycopg
import uvloop
from procrastinate import App, PsycopgConnector, SyncPsycopgConnector
from psycopg_pool import AsyncConnectionPool

from steps.model import Payment
from tests.bench.peers import state_table
from tests.bench.peers.peer import Peer, SagaId, Starter, is_up, worker_dsn

CONCURRENCY, POOL = 8, 4
TASK = "payment"


def install(dsn: str) -> None:
    """procrastinate's tables and the sagas' own."""
    with App(connector=SyncPsycopgConnector(conninfo=dsn)).open() as app:
        app.schema_manager.apply_schema()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(state_table.TABLE)


@contextlib.contextmanager
def starter(dsn: str) -> Iterator[Starter]:
    """Rows and first jobs in one transaction."""
    app = App(connector=SyncPsycopgConnector(conninfo=dsn))
    with psycopg.connect(dsn, autocommit=True) as connection, app.open():

        def start(payments: Sequence[Payment]) -> list[SagaId]:
            with connection.transaction():
                jobs = state_table.insert(connection, payments)
                app.configure_task(TASK, connection=connection).batch_defer(
                    *(job.to_json() for job in jobs)
                )
            return [job.saga for job in jobs]

        yield start


async def work(dsn: str) -> None:
    """Works until it is ended."""
    app = App(connector=PsycopgConnector())
    own = AsyncConnectionPool(dsn, min_size=POOL, max_size=POOL, open=False)
    handlers = AsyncConnectionPool(
        dsn, min_size=CONCURRENCY, max_size=CONCURRENCY, kwargs={"autocommit": True}, open=False
    )

    @app.task(name=TASK)
    async def advance(**job: Any) -> None:
        async with handlers.connection() as tx, tx.transaction():

            async def fetch(statement: LiteralString, *parameters: object) -> object:
                cursor = psycopg.AsyncRawCursor(tx)
                return await (await cursor.execute(statement, parameters)).fetchone()

            following = await state_table.perform(fetch, state_table.Job.from_json(job))
            if following is not None:
                await advance.configure(connection=tx).defer_async(**following.to_json())

    async with handlers, own, app.open_async(pool=own):
        with is_up(dsn):
            await app.run_worker_async(concurrency=CONCURRENCY, delete_jobs="successful")


PEER = Peer(
    name="procrastinate",
    module="tests.bench.peers.with_procrastinate",
    distribution="procrastinate",
    earlier=70,
    sagas=(2_000, 300),
    install=install,
    starter=starter,
    completed=state_table.COMPLETED,
    results=state_table.RESULTS,
    leftovers="select id from public.procrastinate_jobs",
)

if __name__ == "__main__":
    logging.disable(logging.INFO)
    uvloop.run(work(worker_dsn()))

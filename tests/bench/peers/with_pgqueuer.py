"""Payments on pgqueuer 1.6, which is a queue: the saga is a row, its next step a job.

After pgqueuer's documentation: `PgQueuer.from_asyncpg_pool`, and `Queries.enqueue` over the
connection of a transaction; pgqueuer itself acknowledges jobs, by logging and deleting them in
batches. Tuning: 2 processes, batches of 25, an asyncpg pool of 8 for pgqueuer and the handlers,
uvloop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import asyncpg
import orjson
import psycopg
import uvloop
from pgqueuer import AsyncpgDriver, PgQueuer, PsycopgDriver, Queries
from pgqueuer.adapters.drivers.psycopg import SyncPsycopgDriver
from pgqueuer.models import Job
from pgqueuer.queries import SyncQueries
from psycopg.conninfo import conninfo_to_dict

from steps.model import Payment
from tests.bench.peers import state_table
from tests.bench.peers.peer import Peer, SagaId, Starter, is_up, worker_dsn

BATCH, POOL = 25, 8
ENTRYPOINT = "payment"


def install(dsn: str) -> None:
    """pgqueuer's tables and the sagas' own."""
    asyncio.run(_install(dsn))


async def _install(dsn: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await Queries(PsycopgDriver(connection)).install()
        await connection.execute(state_table.TABLE)


@contextlib.contextmanager
def starter(dsn: str) -> Iterator[Starter]:
    """Rows and first jobs in one transaction."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        queries = SyncQueries(SyncPsycopgDriver(connection))

        def start(payments: Sequence[Payment]) -> list[SagaId]:
            with connection.transaction():
                jobs = state_table.insert(connection, payments)
                payloads: list[bytes | None] = [orjson.dumps(job.to_json()) for job in jobs]
                queries.enqueue([ENTRYPOINT] * len(jobs), payloads, [0] * len(jobs))
            return [job.saga for job in jobs]

        yield start


async def work(dsn: str) -> None:
    """Works until it is ended."""
    async with asyncpg.create_pool(min_size=POOL, max_size=POOL, **_asyncpg(dsn)) as pool:
        queuer = PgQueuer.from_asyncpg_pool(pool)

        @queuer.entrypoint(ENTRYPOINT)
        async def advance(job: Job) -> None:
            assert job.payload is not None, "every job has a payload"
            step = state_table.Job.from_json(orjson.loads(job.payload))
            async with pool.acquire() as tx, tx.transaction():
                following = await state_table.perform(tx.fetchrow, step)
                if following is not None:
                    await Queries(AsyncpgDriver(tx)).enqueue(
                        ENTRYPOINT, orjson.dumps(following.to_json())
                    )

        with is_up(dsn):
            await queuer.run(batch_size=BATCH)


def _asyncpg(dsn: str) -> dict[str, Any]:
    """asyncpg's way to write a DSN."""
    parts: dict[str, Any] = conninfo_to_dict(dsn)
    parts["database"] = parts.pop("dbname")
    return parts


PEER = Peer(
    name="pgqueuer",
    module="tests.bench.peers.with_pgqueuer",
    distribution="pgqueuer",
    earlier=160,
    sagas=(5_000, 700),
    install=install,
    starter=starter,
    completed=state_table.COMPLETED,
    results=state_table.RESULTS,
    leftovers="select id from public.pgqueuer",
)

if __name__ == "__main__":
    uvloop.run(work(worker_dsn()))

"""A saga that uses the whole language, whose effects are rows; for workers that are killed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from typing import Any

from psycopg import sql
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel

from outbox import (
    App,
    AppContext,
    Command,
    Event,
    Happened,
    NotDone,
    Rejected,
    Retry,
    Saga,
    Subscriber,
)

QUICK = Retry(attempts=50, base=0.01, cap=0.1)
TIMEOUT = 3
"""Seconds. What a worker leaves in doubt by its death is undone once they are over."""


class Job(BaseModel):
    """How many elements, whether it waits for a signal, at which step it fails, and for whom it
    is."""

    elements: int = 3
    waits: bool = False
    fails_at: str | None = None
    refused: bool = False
    customer: str = ""


class Effects:
    """The outside world: what happened under which key, each once, and what it heard."""

    def __init__(self, pool: AsyncConnectionPool, schema: str) -> None:
        self._pool = pool
        self._table = sql.Identifier(schema, "effect")
        self._heard = sql.Identifier(schema, "heard")

    async def _write(self, key: str, did: str) -> None:
        statement = sql.SQL("insert into {} values (%s, %s) on conflict do nothing")
        async with self._pool.connection() as connection:
            await connection.execute(statement.format(self._table), (key, did))

    async def do(self, cmd: Command[Job]) -> str:
        """The step's effect, and some time."""
        if cmd.input.fails_at == cmd.step and (cmd.element is None or cmd.element == 1):
            raise Rejected(f"no {cmd.step}")
        await self._write(cmd.idempotency_key, "done")
        cmd.emit(f"job.{cmd.step}", {"key": cmd.key})
        await asyncio.sleep(0.005)
        return cmd.idempotency_key

    async def undo(self, cmd: Command[Job]) -> None:
        """Undoes it; keeps the key of what it undoes."""
        await self._write(cmd.idempotency_key.removesuffix("/undo"), "undone")

    async def hear(self, event: Event) -> None:
        """Keeps what was told, in its order; what is told again is known by its id."""
        statement = sql.SQL(
            "insert into {} (id, saga_id, seq) values (%s, %s, %s) on conflict do nothing"
        )
        async with self._pool.connection() as connection:
            await connection.execute(
                statement.format(self._heard), (event.id, event.saga_id, event.seq)
            )

    async def has(self, key: str) -> bool:
        """Whether the effect happened."""
        statement = sql.SQL("select from {} where key = %s and did = 'done'")
        async with self._pool.connection() as connection:
            cursor = await connection.execute(statement.format(self._table), (key,))
            return await cursor.fetchone() is not None


async def act(cmd: Command[Job]) -> str:
    return await cmd.resource(Effects).do(cmd)


async def undo(cmd: Command[Job]) -> None:
    await cmd.resource(Effects).undo(cmd)


def add(saga: Saga[Job], name: str, **more: Any) -> Any:
    step = saga.step(name=name, retry=QUICK, timeout=TIMEOUT, **more)(act)
    step.compensation(retry=QUICK)(undo)
    return step


part = Saga("part", input=Job)
add(part, "part_one")
add(part, "part_two")

everything = Saga("everything", input=Job, deadline=timedelta(minutes=10))
add(everything, "begin")


@everything.step(
    each=lambda cmd: list(range(cmd.input.elements)),
    concurrency=2,
    retry=QUICK,
    timeout=TIMEOUT,
)
async def reserve(cmd: Command[Job], element: int) -> str:
    assert element == cmd.element
    return await cmd.resource(Effects).do(cmd)


@reserve.compensation(retry=QUICK)
async def release(cmd: Command[Job], element: int) -> None:
    assert element == cmd.element
    await cmd.resource(Effects).undo(cmd)


everything.run("sub", part, input=lambda cmd: Job(fails_at=cmd.input.fails_at))
with everything.parallel("group") as group:
    add(everything, "left")
    with group.branch():
        add(everything, "right")
        everything.sleep("nap", timedelta(milliseconds=20))
        add(everything, "right_too")

    @everything.step(retry=QUICK, timeout=TIMEOUT)
    async def asked(cmd: Command[Job]) -> str:
        return await cmd.resource(Effects).do(cmd)

    @asked.reconcile(retry=QUICK)
    async def ask(cmd: Command[Job]) -> Happened | NotDone:
        there = await cmd.resource(Effects).has(cmd.idempotency_key)
        return Happened(cmd.idempotency_key) if there else NotDone()

    asked.compensation(retry=QUICK)(undo)


everything.wait_for("go", timeout=timedelta(minutes=5), when=lambda cmd: cmd.input.waits)
with everything.choice("how") as how:
    with how.when(lambda cmd: cmd.input.elements > 3):
        add(everything, "many")
    with how.otherwise():
        add(everything, "few")


@everything.step(best_effort=True, nothing_to_undo="a mail", retry=Retry(attempts=1))
async def mail(cmd: Command[Job]) -> None:
    if cmd.input.refused:
        raise Rejected("no such mailbox")


add(everything, "end")


@contextlib.asynccontextmanager
async def lifespan(context: AppContext) -> AsyncIterator[Iterable[object]]:
    async with AsyncConnectionPool(
        context.dsn, min_size=1, max_size=4, kwargs={"autocommit": True}, open=False
    ) as pool:
        effects = Effects(pool, context.schema)
        _world.append(effects)
        yield [effects]


_world: list[Effects] = []
"""Of this process, for subscribers, which are given an event only."""


async def listen(event: Event) -> None:
    await _world[-1].hear(event)


app = App(
    [everything, part],
    lifespan=lifespan,
    subscribers=[Subscriber("listener", ["job.*"], listen, backoff=0.05, timeout=2)],
)


def expected_keys(key: str, job: Job) -> set[str]:
    """The keys of the effects of a saga that completes, its sub-saga's too."""
    steps = ["begin", "left", "right", "right_too", "asked", "end"]
    steps += ["many" if job.elements > 3 else "few"]
    steps += [f"reserve/{n}" for n in range(job.elements)]
    inner = f"everything%2F{key}%2Fsub"
    return {f"everything/{key}/{step}" for step in steps} | {
        f"part/{inner}/{step}" for step in ("part_one", "part_two")
    }

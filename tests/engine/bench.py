"""Small sagas in a schema of their own, run by workers of this very process."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID

import psycopg
from pydantic import BaseModel

from outbox import App, Client, Saga, SagaStatus
from outbox.engine.trace import Tracer
from outbox.operator import Operator, Violation
from outbox.settings import Settings, load_settings
from outbox.store.connect import connect
from outbox.store.functions import Functions
from outbox.telemetry import Level, Telemetry
from outbox.worker import Worker, register
from tests.fixtures import Schema
from tests.waiting import wait_until_async

NEVER = "0 0 29 2 *"
"""A cron expression that no test will live to see."""


class Note(BaseModel):
    """The input of these sagas."""

    text: str = ""


async def until(
    condition: Callable[[], bool | Awaitable[bool]], timeout: float = 20, message: str | None = None
) -> None:
    """Waits until a condition holds; it may be a coroutine function."""
    await wait_until_async(condition, timeout, message)


class Running:
    """A worker that runs in this event loop, and what it told its telemetry."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.told: list[tuple[str, Level, dict[str, Any]]] = []
        self.task: asyncio.Task[None] | None = None

    def hear(self, event: str, level: Level, fields: dict[str, Any]) -> None:
        self.told.append((event, level, fields))

    def events(self, name: str) -> list[dict[str, Any]]:
        """The fields of the events of this name."""
        return [fields for event, _, fields in self.told if event == name]

    async def stop(self) -> None:
        """An orderly end."""
        assert self.task is not None
        self.worker.stop()
        await self.task

    async def crash(self) -> None:
        """An end without order: nothing is given back, as if the process had died."""
        assert self.task is not None
        self.task.cancel()
        await asyncio.wait({self.task})


def make_saga(version: int = 1) -> Saga[Note]:
    """A saga type of a name of its own."""
    return Saga(f"note_{uuid.uuid4().hex[:12]}", input=Note, version=version)


class Bench:
    """A schema, and workers in it that are quick to notice."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.client = Client(schema.name)

    def settings(self, **changes: Any) -> Settings:
        """Settings for short tests."""
        quick = {
            "dsn": self.schema.dsn,
            "OUTBOX_SCHEMA": self.schema.name,
            "lease": 2.0,
            "poll": 0.2,
            "shutdown_grace": 5.0,
            "alert_schedule": NEVER,
            "retention_schedule": NEVER,
        }
        return load_settings(**{**quick, **changes})

    @contextlib.asynccontextmanager
    async def worker(
        self, app: App | Saga[Any], tracer: Tracer | None = None, **settings: Any
    ) -> AsyncIterator[Running]:
        """A worker that is ready; stopped in order at the end, unless it has ended."""
        chosen = self.settings(**settings)
        assert chosen.dsn is not None
        telemetry = Telemetry()
        worker = Worker(
            [app if isinstance(app, App) else App([app])],
            chosen,
            chosen.dsn.get_secret_value(),
            telemetry,
            tracer,
        )
        running = Running(worker)
        telemetry.hooks.append(running.hear)
        running.task = task = asyncio.create_task(worker.run())
        ready = asyncio.create_task(worker.ready.wait())
        try:
            await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                await task
            yield running
        finally:
            ready.cancel()
            if not task.done():
                worker.stop()
            async with asyncio.timeout(30):
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        broken = [f for name, _, f in running.told if name == "internal_error"]
        assert broken == []

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """An autocommit connection with the schema in its search_path."""
        async with await psycopg.AsyncConnection.connect(
            self.schema.dsn, autocommit=True, options=f"-c search_path={self.schema.name}"
        ) as connection:
            yield connection

    async def register(self, *sagas: Saga[Any]) -> None:
        """Makes types known before a worker runs."""
        async with await connect(self.schema.dsn) as connection:
            await register(connection, Functions(self.schema.name), [App(sagas)])

    async def start(self, saga: Saga[Any], text: str = "", key: str | None = None) -> UUID:
        """Starts one saga."""
        async with self.connection() as connection:
            return (await self.client.start(connection, saga, Note(text=text), key=key)).id

    async def start_many(self, saga: Saga[Any], count: int) -> list[UUID]:
        """Starts sagas whose texts are 0, 1, 2, …"""
        inputs = [(None, Note(text=str(n))) for n in range(count)]
        async with self.connection() as connection:
            return [s.id for s in await self.client.start_many(connection, saga, inputs)]

    async def settled(self, saga_id: UUID, timeout: float = 20) -> SagaStatus:
        """The saga, once it has ended or waits for a person."""
        async with self.connection() as connection:
            return await self.client.wait(connection, saga_id, timeout=timeout)

    async def all_settled(self, timeout: float = 30) -> None:
        """Waits until no saga lives but suspended ones."""

        async def none_left() -> bool:
            return not await self.rows("select 1 from outbox where status <> 'SUSPENDED' limit 1")

        await until(none_left, timeout, "every saga settled")

    async def rows(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """The rows of a statement; none for one that returns none."""
        async with self.connection() as connection:
            cursor = await connection.execute(statement.encode(), parameters or None)
            return await cursor.fetchall() if cursor.description else []

    async def history(self, saga_id: UUID) -> list[tuple[str, str, str]]:
        """A saga's transitions as (kind, step, outcome)."""
        return await self.rows(
            "select kind, step, outcome from transition where saga_id = %s order by seq", saga_id
        )

    async def errors(self, saga_id: UUID) -> list[dict[str, Any]]:
        """The errors in a saga's history."""
        found = await self.rows(
            "select error from transition where saga_id = %s and error is not null order by seq",
            saga_id,
        )
        return [error for (error,) in found]

    async def violations(self) -> list[Violation]:
        """What the audit says."""
        async with self.connection() as connection:
            return await Operator(self.schema.name).audit(connection)

"""What the shipped sagas talk to, for tests: partners, a payment provider, mail and webhooks, all
of them real; and workers of this very process."""

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import psycopg
from pydantic import BaseModel

from outbox import App, Saga, SagaStatus
from outbox.store.connect import connect
from outbox.store.functions import Functions
from outbox.telemetry import Telemetry
from outbox.worker import Worker, register
from steps import ledger
from steps.demo.mailbox import HOST, Mailbox
from steps.sandbox.process import SandboxProcess
from steps.server import ServerProcess
from steps.shop import Shop
from tests.engine.bench import Bench, Running

SHORT = {"EXAMPLE_PARTNERS_TIMEOUT": "0.5", "PAYMENT_PROVIDER_TIMEOUT": "2"}


class Town:
    """A sandbox, a mail server and a receiver of webhooks, on a bench's schema; a context manager.

    Args:
        bench: where the sagas run.
        directory: for the sandbox's memory and logs.
        webhooks: whether anybody receives them.
    """

    def __init__(self, bench: Bench, directory: Path, *, webhooks: bool = False) -> None:
        self.bench = bench
        self.mailbox = Mailbox()
        self.schema = f"{bench.schema.name}_shop"
        self.ledger = f"{bench.schema.name}_ledger"
        self.shop = Shop(self.schema)
        self.receiver: ServerProcess | None = None
        self._directory = directory
        self._webhooks = webhooks
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.sandbox = stack.enter_context(
                SandboxProcess(self._directory / "sandbox.sqlite", "--callback-delay", "0.1")
            )
            stack.enter_context(self.mailbox)
            if self._webhooks:
                engine = {
                    "OUTBOX_DSN": self.bench.schema.dsn,
                    "OUTBOX_SCHEMA": self.bench.schema.name,
                }
                self.receiver = stack.enter_context(
                    ServerProcess("steps.webhooks", environment={**os.environ, **engine})
                )
            stack.callback(self._drop)
            stack.enter_context(self._environment())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextlib.asynccontextmanager
    async def worker(self, *apps: App, **settings: Any) -> AsyncIterator[Running]:
        """A worker for some apps, each with its own lifespan."""
        # What is in doubt need not wait as long as in earnest.
        await self.bench.rows("update setting set grace = '0.2 seconds', hold = '1 second'")
        chosen = self.bench.settings(**settings)
        assert chosen.dsn is not None
        telemetry = Telemetry()
        worker = Worker(apps, chosen, chosen.dsn.get_secret_value(), telemetry)
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
        assert running.events("internal_error") == []

    async def register(self, *apps: App) -> None:
        """Makes types known before a worker runs."""
        async with await connect(self.bench.schema.dsn) as connection:
            await register(connection, Functions(self.bench.schema.name), apps)

    async def start(self, saga: Saga[Any], input: BaseModel, key: str = "first") -> UUID:
        """Starts a saga."""
        async with self.bench.connection() as connection:
            return (await self.bench.client.start(connection, saga, input, key=key)).id

    async def settled(self, saga_id: UUID, timeout: float = 40) -> SagaStatus:
        """A saga once it has ended or is suspended."""
        return await self.bench.settled(saga_id, timeout)

    def booked(self) -> dict[str, list[str]]:
        """What stands booked at each partner, sorted; partners with nothing are left out."""
        found: dict[str, list[str]] = {}
        for booking in sorted(self.sandbox.bookings(), key=lambda one: str(one["item"])):
            if booking["status"] == "booked":
                found.setdefault(booking["service"], []).append(booking["item"])
        return found

    def cancelled(self) -> Counter[str]:
        """How many bookings were cancelled at each partner."""
        return Counter(
            str(one["service"]) for one in self.sandbox.bookings() if one["status"] == "cancelled"
        )

    def intents(self) -> list[str]:
        """The statuses of the payment provider's intents."""
        return sorted(str(intent["status"]) for intent in self.sandbox.intents())

    async def table(self, name: str) -> list[dict[str, Any]]:
        """A table of the shop's."""
        async with await psycopg.AsyncConnection.connect(
            self.bench.schema.dsn, autocommit=True
        ) as connection:
            return await self.shop.rows(connection, name)

    async def postings(self) -> list[str]:
        """The directions of the ledger's entries."""
        async with await psycopg.AsyncConnection.connect(
            self.bench.schema.dsn, autocommit=True
        ) as connection:
            return [entry.direction for entry in await ledger.entries(connection, self.ledger)]

    async def steps_of(self, saga_id: UUID) -> list[tuple[str, str, str]]:
        """A saga's transitions as (kind, step, outcome)."""
        return await self.bench.history(saga_id)

    @property
    def callback_url(self) -> str:
        """Where the carrier tells of deliveries."""
        assert self.receiver is not None, "nobody receives webhooks"
        return f"{self.receiver.url}/webhooks/carrier"

    @property
    def variables(self) -> Mapping[str, str]:
        """The settings of the sagas."""
        return {
            "PAYMENT_PROVIDER_URL": self.sandbox.url,
            "PAYMENT_SMTP_PORT": str(self.mailbox.port),
            "PAYMENT_LEDGER_SCHEMA": self.ledger,
            "EXAMPLE_PARTNERS_URL": self.sandbox.url,
            "EXAMPLE_SMTP_HOST": HOST,
            "EXAMPLE_SMTP_PORT": str(self.mailbox.port),
            "EXAMPLE_DB_SCHEMA": self.schema,
            **SHORT,
            **({} if self.receiver is None else {"EXAMPLE_CALLBACK_URL": self.callback_url}),
        }

    @contextlib.contextmanager
    def _environment(self) -> Iterator[None]:
        before = {name: os.environ.get(name) for name in self.variables}
        os.environ.update(self.variables)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    def _drop(self) -> None:
        with psycopg.connect(self.bench.schema.dsn, autocommit=True) as connection:
            for schema in (self.schema, self.ledger):
                connection.execute(f"drop schema if exists {schema} cascade".encode())

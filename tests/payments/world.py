"""Payments in a world of their own: schema, ledger, provider, mail server, and real workers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg import sql

import outbox
from outbox.store.connect import connect
from outbox.store.functions import Functions
from outbox.store.migrate import migrate
from outbox.worker import register
from steps import ledger
from steps.demo.mailbox import HOST, Mailbox
from steps.demo.verdict import Found, IntentFound, Mismatch, compare
from steps.expected import CLOSED_MERCHANT
from steps.model import Payment
from steps.payment import app, payment
from steps.sandbox.process import SandboxProcess
from tests.fixtures import drop_schema
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]


def make_payment(number: int = 0, **changes: Any) -> Payment:
    """A payment that succeeds unless it is changed."""
    fields = {
        "amount": 1000 + number,
        "currency": "eur",
        "merchant": f"merchant-{number % 7}",
        "customer": f"cus_{number:06d}",
        "payment_method": "pm_card_visa",
        "email": f"customer{number}@example.com",
    }
    return Payment.model_validate({**fields, **changes})


def make_payments(count: int) -> dict[str, Payment]:
    """Payments by key: most succeed, some are declined, some hit faults that pass."""
    kinds: list[dict[str, Any]] = [
        {}, {}, {}, {}, {},
        {"payment_method": "pm_card_chargeDeclined"},
        {"merchant": CLOSED_MERCHANT},
        {"sandbox_fault": "create:drop_after:1"},
        {"sandbox_fault": "confirm:drop_after:1"},
        {"sandbox_fault": "confirm:rate_limit:1;cancel:drop_after:1"},
    ]  # fmt: skip
    return {f"order-{n:04d}": make_payment(n, **kinds[n % len(kinds)]) for n in range(count)}


class WorkerProcess:
    """A ``bin/worker`` in a process of its own; its log is kept as JSON lines."""

    def __init__(self, environment: Mapping[str, str], log: Path, *apps: str) -> None:
        self.log = log
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "outbox.cli.worker", *(apps or ("steps.payment:app",))],
                env={**os.environ, **environment},
                cwd=ROOT,
                stderr=stderr,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log's events of this name so far."""
        found = []
        for line in self.log.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                event = json.loads(line)
                if event.get("event") == name:
                    found.append(event)
        return found

    def ready(self) -> Self:
        """Waits until it is registered."""
        wait_until(self._registered, 30, f"worker {self.process.pid} registered")
        return self

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def terminate(self, timeout: float = 60) -> int:
        """SIGTERM; its exit code."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        return self.process.wait(timeout)

    def _registered(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"the worker ended: {self.log.read_text()[-3000:]}")
        return bool(self.events("worker_registered"))


class World:
    """Everything that payments need, on a database; a context manager.

    Args:
        dsn: of the database; what the test itself uses.
        directory: for logs and the provider's memory.
        worker_dsn: what the workers use, when they go through something.
        mailbox: the mail server, when it is to misbehave.
        settings: of the workers, over short ones.
    """

    def __init__(
        self,
        dsn: str,
        directory: Path,
        *,
        worker_dsn: str | None = None,
        mailbox: Mailbox | None = None,
        **settings: str,
    ) -> None:
        self.dsn = dsn
        self.schema = f"pay_{uuid.uuid4().hex[:12]}"
        self.ledger = f"{self.schema}_ledger"
        self.payments: dict[str, Payment] = {}
        self.workers: list[WorkerProcess] = []
        self.mailbox = mailbox or Mailbox()
        self._directory = directory
        self._worker_dsn = worker_dsn or dsn
        self._settings = settings
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.sandbox = stack.enter_context(
                SandboxProcess(self._directory / "sandbox.sqlite", "--slow", "0.3")
            )
            stack.enter_context(self.mailbox)
            stack.callback(self._drop)
            asyncio.run(self._prepare())
            stack.callback(self._stop_workers)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def environment(self) -> dict[str, str]:
        """The workers' environment."""
        return {
            "OUTBOX_DSN": self._worker_dsn,
            "OUTBOX_LISTEN_DSN": self.dsn,
            "OUTBOX_SCHEMA": self.schema,
            "OUTBOX_LEASE": "3",
            "OUTBOX_LOG_FORMAT": "json",
            "PAYMENT_PROVIDER_URL": self.sandbox.url,
            "PAYMENT_PROVIDER_TIMEOUT": "2",
            "PAYMENT_SMTP_HOST": HOST,
            "PAYMENT_SMTP_PORT": str(self.mailbox.port),
            "PAYMENT_LEDGER_SCHEMA": self.ledger,
            **self._settings,
        }

    def worker(self, *apps: str, **settings: str) -> WorkerProcess:
        """Starts a worker."""
        log = self._directory / f"worker-{len(self.workers)}.log"
        started = WorkerProcess({**self.environment, **settings}, log, *apps)
        self.workers.append(started)
        return started

    def start(self, payments: Mapping[str, Payment]) -> None:
        """Starts a saga for each payment."""
        self.payments.update(payments)
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            outbox.Client(self.schema).start_many(connection, payment, payments.items())

    def rows(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of a statement, the schema in its search_path."""
        with self.connect() as connection:
            return connection.execute(statement.encode(), parameters).fetchall()

    def connect(self) -> psycopg.Connection[Any]:
        """An autocommit connection, the schema in its search_path."""
        return psycopg.connect(self.dsn, options=f"-c search_path={self.schema}", autocommit=True)

    def unsettled(self) -> int:
        """How many sagas neither have ended nor wait for a person."""
        ((count,),) = self.rows("select count(*) from outbox where status <> 'SUSPENDED'")
        return int(count)

    def wait_until_settled(self, timeout: float = 90) -> None:
        """Waits until every saga has ended or waits for a person."""
        deadline = time.monotonic() + timeout
        wait_until(
            lambda: self.unsettled() == 0,
            max(0.1, deadline - time.monotonic()),
            f"all payments settled (see {self._directory})",
        )

    def saga(self, key: str) -> outbox.SagaStatus:
        """The saga with this key."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            found = outbox.Client(self.schema).find(connection, "payment", key)
        assert found is not None
        return found

    def steps_of(self, key: str) -> list[tuple[str, str, str]]:
        """A saga's transitions as (kind, step, outcome), in order."""
        return self.rows(
            "select kind, step, outcome from timeline where saga_id = %s and seq > 0 order by seq",
            self.saga(key).id,
        )

    def violations(self) -> list[outbox.operator.Violation]:
        """What the audit says."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            return outbox.Operator(self.schema).audit(connection)

    def mismatches(self) -> list[Mismatch]:
        """Where the provider, the ledger, the mails or the sagas are not as the inputs say."""
        return compare(self.payments, self.found())

    def found(self) -> dict[str, Found]:
        """What there is of each payment, by key."""
        keys = {str(i): k for i, k in self.rows("select saga_id, key from overview")}
        found: defaultdict[str, Found] = defaultdict(Found)

        def of(saga_id: object) -> Found:
            return found[keys.get(str(saga_id), f"saga {saga_id}")]

        for saga_id, status in self.rows("select saga_id, status from overview"):
            of(saga_id).status = status
        for effect in self.sandbox.effects():
            effects = of(effect["saga_id"]).effects
            effects[effect["operation"]] = effects.get(effect["operation"], 0) + 1
        for intent in self.sandbox.intents():
            seen = IntentFound(intent["status"], intent["amount"], intent["currency"])
            of(intent["metadata"].get("saga_id")).intents.append(seen)
        for entry in asyncio.run(self._entries()):
            of(entry.saga_id).entries.append(entry)
        for mail in self.mailbox.received:
            of(mail.saga_id).mails[mail.message_id] = mail.recipient
        return dict(found)

    async def _prepare(self) -> None:
        async with await connect(self.dsn) as connection:
            await migrate(connection, self.schema)
            await register(connection, Functions(self.schema), [app])
            await ledger.install(connection, self.ledger)
            await ledger.close_merchant(connection, self.ledger, CLOSED_MERCHANT, "a test")

    async def _entries(self) -> list[ledger.Entry]:
        async with await psycopg.AsyncConnection.connect(self.dsn, autocommit=True) as connection:
            return await ledger.entries(connection, self.ledger)

    def _stop_workers(self) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.kill()

    def _drop(self) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(
                sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(self.ledger))
            )
            drop_schema(connection, self.schema)


def all_is_well(world: World) -> None:
    """Asserts that the audit is clean and that everything everywhere is as the inputs say."""
    assert [str(m) for m in world.mismatches()] == []
    assert world.violations() == []

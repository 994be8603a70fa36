"""Runs sagas within a test."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import psycopg
from psycopg import sql

from outbox.client import Client, Delivery, Input, SagaStatus
from outbox.definition.flow import Wait
from outbox.definition.node import Node
from outbox.definition.registry import App
from outbox.definition.saga import Saga
from outbox.settings import Settings, load_settings
from outbox.store.connect import complete_dsn
from outbox.store.embedded import EmbeddedServer
from outbox.testing.place import new_database, new_schema, put_clock_forward
from outbox.testing.running import RunningWorker

# A cron expression that no test will live to see.
_NEVER = "0 0 29 2 *"
_PAUSE = 0.01


class Workbench:
    """Runs an app's sagas within a test: a real worker, on a real Postgres. A context manager: what
    it needs is made at its beginning, and is gone at its end. That takes a second or two, so let
    the tests of a module share one.

    The worker has a thread and an event loop of its own. So tests may be plain functions as well as
    coroutines, and may replace what handlers call by pytest's ``monkeypatch``.

    Args:
        app: the app, a saga, or sagas.
        dsn: a database of yours, with the tables that your handlers need. It gets the engine's
            schema, and loses it at the end. Without it: a new database on the embedded server (the
            extra ``embedded``), which may be in use by others.
        schema: the engine's schema.
        directory: of the embedded server; default ``OUTBOX_DIRECTORY``.

    Attributes:
        dsn: where the database is, for your own connections and migrations.
        schema: the engine's schema.
        client: starts and finds sagas there.

    Raises:
        ConfigurationError: the database has that schema already.
        OutboxError: what a worker says that cannot begin.
    """

    def __init__(
        self,
        app: App | Saga[Any] | Sequence[Saga[Any]],
        *,
        dsn: str | None = None,
        schema: str = "saga",
        directory: Path | None = None,
    ) -> None:
        sagas = [app] if isinstance(app, Saga) else app
        self._app = sagas if isinstance(sagas, App) else App(sagas)
        self._given = dsn
        self._settings = _settings(schema, directory)
        self._ahead = timedelta()
        self.dsn = ""
        self.schema = schema
        self.client = Client(schema)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            if self._given is None:
                server = stack.enter_context(EmbeddedServer(self._settings.directory))
                self.dsn = stack.enter_context(new_database(server.dsn))
            else:
                self.dsn = complete_dsn(self._given, setting="the Workbench's dsn")
            self._connection = stack.enter_context(self.connection())
            stack.enter_context(new_schema(self._connection, self.schema, self.dsn))
            worker = RunningWorker(self._app, self._settings, self.dsn)
            self._worker = stack.enter_context(worker)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def connection(self) -> psycopg.Connection[Any]:
        """A new connection to the database, in autocommit mode."""
        return psycopg.connect(self.dsn, autocommit=True)

    def start(self, saga: Saga[Any], input: Input, *, key: str | None = None) -> UUID:
        """Starts a saga, and returns its id. ``client`` has the other ways, and ``Started``.

        Raises:
            as ``Client.start``.
        """
        return self.client.start(self._connection, saga, input, key=key).id

    def run(
        self, saga: Saga[Any], input: Input, *, key: str | None = None, timeout: float = 30.0
    ) -> SagaStatus:
        """Starts a saga, and waits until it has ended or is suspended.

        Raises:
            as ``start`` and ``wait``.
        """
        return self.wait(self.start(saga, input, key=key), timeout=timeout)

    def wait(self, saga_id: UUID, *, timeout: float = 30.0) -> SagaStatus:
        """Waits until a saga has ended or is suspended.

        Args:
            timeout: seconds, by the test's own clock.

        Raises:
            TimeoutError: it still runs; the message says where it is, and what has happened.
        """
        self._until(saga_id, lambda: self.status(saga_id).is_settled, "settled", timeout)
        return self.status(saga_id)

    def wait_at(self, saga_id: UUID, step: Node[Any] | str, *, timeout: float = 30.0) -> None:
        """Waits until a step itself waits: for its signal, its time, a sub-saga's end, or its next
        attempt.

        Args:
            step: the step, or its name.
            timeout: seconds, by the test's own clock.

        Raises:
            TimeoutError: it does not; the message says where the saga is, and what has happened.
        """
        name = step if isinstance(step, str) else step.name
        waiting = sql.SQL(
            "select exists (select from {}.pending "
            "where saga_id = %s and step = %s and standing in ('waiting', 'delayed'))"
        ).format(sql.Identifier(self.schema))

        def waits() -> bool:
            return self._connection.execute(waiting, (saga_id, name)).fetchone() == (True,)

        self._until(saga_id, waits, f'waiting at step "{name}"', timeout)

    def signal(
        self,
        saga_id: UUID,
        signal: Wait[Any, Any] | str,
        payload: object = None,
        *,
        key: str | None = None,
    ) -> Delivery:
        """Tells a saga what it waits for.

        Raises:
            as ``Client.signal``.
        """
        return self.client.signal(self._connection, saga_id, signal, payload, key=key)

    def status(self, saga_id: UUID) -> SagaStatus:
        """Where a saga stands.

        Raises:
            NotFoundError: no saga has this id.
        """
        return self.client.status(self._connection, saga_id)

    def history(self, saga_id: UUID) -> list[str]:
        """What has happened to a saga, in words: ``["reserve: done", "book: rejected, now
        COMPENSATING", "undo of reserve: done, now FAILED"]``."""
        moments = sql.SQL("select what from {}.timeline(%s) where seq > 0 order by seq").format(
            sql.Identifier(self.schema)
        )
        return [what for (what,) in self._connection.execute(moments, (str(saga_id),)).fetchall()]

    def pass_time(self, duration: timedelta) -> None:
        """Puts the database's clock forward, by which sagas sleep, wait, are tried again and meet
        their deadlines. An attempt that runs meanwhile may be taken for one that has outlived its
        timeout: let the saga come to where it waits before, by ``wait_at``."""
        self._ahead += duration
        put_clock_forward(self._connection, self.schema, self._ahead)

    def _until(self, saga_id: UUID, holds: Callable[[], bool], what: str, timeout: float) -> None:
        end = time.monotonic() + timeout
        while not holds():
            self._worker.check()
            if time.monotonic() > end:
                found = self.status(saga_id)
                raise TimeoutError(
                    f"saga {saga_id} is not {what} after {timeout:g} s: it is {found.status} at "
                    f"step {found.step}, after {self.history(saga_id)}"
                )
            time.sleep(_PAUSE)


def _settings(schema: str, directory: Path | None) -> Settings:
    """A worker's that is quick to notice, and that reaches nothing but the test's own database,
    whatever the environment says."""
    return load_settings(
        OUTBOX_SCHEMA=schema,
        listen_dsn=None,
        poll=0.1,
        lease=10.0,
        shutdown_grace=5.0,
        alert_schedule=_NEVER,
        retention_schedule=_NEVER,
        metrics_port=None,
        tracing=False,
        smtp_url=None,
        **({} if directory is None else {"directory": directory}),
    )

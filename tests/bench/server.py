"""The Postgres that is measured: one of the benchmark's own, or one that it is given."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString, Self

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from outbox.settings import Settings
from outbox.store.connect import connect
from outbox.store.embedded import EmbeddedServer
from outbox.store.functions import Functions
from outbox.store.migrate import migrate
from outbox.worker import register
from steps import ledger
from tests.bench.sagas import CLOSED_MERCHANT, LEDGER_SCHEMA, app

SCHEMA = Settings.model_fields["schema_name"].default
SETTINGS: Mapping[str, str] = {
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "1GB",
    "max_wal_size": "4GB",
    "max_connections": "200",
}
"""Everything else is as Postgres comes. Engine, floor, yardsticks and peers all get the same."""

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True)
class Database:
    """A database with our schema, the ledger, and the benchmark's sagas registered."""

    dsn: str

    def connect(self, *, name: str = "bench") -> Connection:
        """An autocommit connection that prepares every statement, our schema in its path."""
        return psycopg.connect(
            self.dsn,
            options=f"-c search_path={SCHEMA},{LEDGER_SCHEMA},public",
            application_name=name,
            autocommit=True,
            prepare_threshold=0,
        )

    def value(self, statement: LiteralString, *parameters: object) -> Any:
        """The one value that a statement returns."""
        with self.connect() as connection:
            return value(connection, statement, *parameters)


def value(connection: Connection, statement: LiteralString, *parameters: object) -> Any:
    """The one value that a statement returns, on a connection."""
    row = connection.execute(statement, parameters).fetchone()
    assert row is not None, "the statement returned no row"
    return row[0]


class Server:
    """A context manager around the server of a run.

    Args:
        dsn: a server whose role may create databases; None: start one in a temporary directory.
    """

    def __init__(self, dsn: str | None) -> None:
        self._given = dsn
        self._dsn = dsn or ""
        self._directory: Path | None = None
        self._embedded: EmbeddedServer | None = None
        self._template: str | None = None

    def __enter__(self) -> Self:
        if self._given is None:
            # Not below the checkout: a server that is started by root runs as another user.
            self._directory = Path(tempfile.mkdtemp(prefix="outbox-bench-"))
            self._directory.chmod(0o711)
            self._launch({})
        return self

    def __exit__(self, *_: object) -> None:
        if self._template is not None:
            self._drop(self._template)
        if self._embedded is not None:
            self._embedded.release()
        if self._directory is not None:
            shutil.rmtree(self._directory)

    @property
    def is_own(self) -> bool:
        """Whether it is the benchmark's own, to be restarted as it likes."""
        return self._given is None

    @property
    def dsn(self) -> str:
        """Of its maintenance database, for the superuser where the server is the benchmark's."""
        return self._dsn

    def connect(self) -> Connection:
        """An autocommit connection to the maintenance database."""
        return psycopg.connect(self._dsn, autocommit=True)

    def restart(self, **settings: str) -> None:
        """Restarts the benchmark's own server with other settings beside `SETTINGS`.

        Raises:
            RuntimeError: the server is not the benchmark's.
        """
        if self._embedded is None:
            raise RuntimeError("only the benchmark's own server can be restarted")
        self._embedded.release()
        self._launch(settings)

    def maintain(self, statement: LiteralString | sql.Composed) -> None:
        """Runs a statement outside the measured databases."""
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            connection.execute(statement)

    @contextlib.contextmanager
    def empty_database(self) -> Iterator[str]:
        """The DSN of a database with nothing in it, dropped afterwards."""
        name = self._create(None)
        try:
            yield make_conninfo(self._dsn, dbname=name)
        finally:
            self._drop(name)

    @contextlib.contextmanager
    def database(self) -> Iterator[Database]:
        """A migrated database of one's own, right after a checkpoint; dropped afterwards."""
        if self._template is None:
            self._template = self._create(None)
            asyncio.run(_prepare(make_conninfo(self._dsn, dbname=self._template)))
        name = self._create(self._template)
        try:
            self.maintain("checkpoint")
            yield Database(make_conninfo(self._dsn, dbname=name))
        finally:
            self._drop(name)

    def _launch(self, settings: Mapping[str, str]) -> None:
        assert self._directory is not None, "a server of one's own has a directory"
        self._embedded = EmbeddedServer(self._directory, settings={**SETTINGS, **settings})
        self._embedded.start()
        self._dsn = self._embedded.dsn

    def _create(self, template: str | None) -> str:
        name = f"bench_{uuid.uuid4().hex[:12]}"
        statement = sql.SQL("create database {}").format(sql.Identifier(name))
        if template is not None:
            statement += sql.SQL(" template {}").format(sql.Identifier(template))
        self.maintain(statement)
        return name

    def _drop(self, name: str) -> None:
        self.maintain(
            sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
        )


async def _prepare(dsn: str) -> None:
    connection = await connect(dsn)
    async with connection:
        await migrate(connection, SCHEMA)
        await ledger.install(connection, LEDGER_SCHEMA)
        await ledger.close_merchant(connection, LEDGER_SCHEMA, CLOSED_MERCHANT, "benchmark")
        await register(connection, Functions(SCHEMA), [app])

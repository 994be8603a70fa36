"""A schema of its own for every test, and a clock that a test can move."""

import asyncio
import contextlib
import functools
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from outbox.store.connect import connect
from outbox.store.migrate import migrate, print_sql
from tests.postgres.servers import copied_database, template_of

_NAME = "test_saga"


@dataclass(frozen=True)
class Schema:
    """A migrated schema: the database that it is in, and its name."""

    dsn: str
    name: str

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        """An autocommit connection with this schema in its search_path, which gives up a wait for
        a lock after 30 seconds."""
        options = {"autocommit": True, **options}
        server_options = f"-c search_path={self.name} -c lock_timeout=30s"
        return psycopg.connect(self.dsn, options=server_options, **options)


@contextlib.contextmanager
def fresh_schema(dsn: str, *, roles: bool = False) -> Iterator[Schema]:
    """A new migrated schema; dropped afterwards, its roles too. It is alone in a database beside
    the one that is named: to copy one takes a third of the time that the statements take."""
    if roles:
        with migrated_schema(dsn, roles=True) as made:
            yield made
    else:
        with copied_database(dsn, _template(dsn)) as copy:
            yield Schema(copy, _NAME)


@contextlib.contextmanager
def migrated_schema(dsn: str, *, roles: bool = False) -> Iterator[Schema]:
    """A new migrated schema in the very database that is named, which may have others."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    asyncio.run(_migrate(dsn, name, roles))
    try:
        yield Schema(dsn, name)
    finally:
        with psycopg.connect(dsn, autocommit=True) as connection:
            drop_schema(connection, name)


@functools.cache
def _template(dsn: str) -> str:
    """The name of a database, on the same server, that has a migrated schema, for copies. It is
    made by statements in one round trip; tests/sql/test_migrate.py compares that with a migration.
    """
    name = template_of(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    with psycopg.connect(make_conninfo(dsn, dbname=name), autocommit=True) as connection:
        connection.execute(print_sql(_NAME).encode())
    return name


def drop_schema(connection: psycopg.Connection[Any], name: str) -> None:
    """Drops a schema with all that is in it, and the roles that belong to it."""
    connection.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(name)))
    for (role,) in connection.execute(
        "select rolname from pg_roles where rolname = any(%s)",
        ([f"{name}_{role}" for role in ("producer", "worker", "viewer", "operator")],),
    ).fetchall():
        connection.execute(sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(role)))


@pytest.fixture
def schema(postgres_dsn: str) -> Iterator[Schema]:
    """A migrated schema, in a database of the test's own."""
    with fresh_schema(postgres_dsn) as made:
        yield made


def move_clock(connection: psycopg.Connection[Any], schema: str, by: timedelta) -> None:
    """Lets the schema's clock be `by` ahead of the real one (negative: behind), which goes on."""
    connection.execute(
        sql.SQL(
            "create or replace function {}.clock() returns timestamptz language sql volatile "
            "parallel safe as $$ select pg_catalog.clock_timestamp() + interval {} $$"
        ).format(sql.Identifier(schema), sql.Literal(f"{by.total_seconds()} seconds"))
    )


async def _migrate(dsn: str, name: str, roles: bool) -> None:
    connection = await connect(dsn)
    async with connection:
        await migrate(connection, name, roles=roles)

"""A schema of its own for every test, and a clock that a test can move."""

import asyncio
import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from outbox.store.connect import connect
from outbox.store.migrate import migrate, print_sql


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
    """A new migrated schema in a database; dropped afterwards, its roles too."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    if roles:
        asyncio.run(_migrate(dsn, name))
    else:
        # The same in one round trip; tests/sql/test_migrate.py compares the two.
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(print_sql(name).encode())
    try:
        yield Schema(dsn, name)
    finally:
        with psycopg.connect(dsn, autocommit=True) as connection:
            drop_schema(connection, name)


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
    """A schema of the test's own, migrated, in the database of `postgres_dsn`."""
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


async def _migrate(dsn: str, name: str) -> None:
    connection = await connect(dsn)
    async with connection:
        await migrate(connection, name, roles=True)

"""Where a workbench's sagas live: a database of their own, or a schema in one that is given."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from outbox.errors import ConfigurationError
from outbox.store.connect import describe_dsn
from outbox.store.migrate import print_sql

_EXISTS = "select exists (select from pg_namespace where nspname = %s)"


@contextlib.contextmanager
def new_database(server: str) -> Iterator[str]:
    """The DSN of a new database on a server; dropped at the end, whoever is connected to it."""
    name = sql.Identifier(f"workbench_{uuid.uuid4().hex[:12]}")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(name))
    try:
        yield make_conninfo(server, dbname=name.as_string().strip('"'))
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(sql.SQL("drop database {} with (force)").format(name))


@contextlib.contextmanager
def new_schema(connection: psycopg.Connection[Any], schema: str, dsn: str) -> Iterator[None]:
    """Installs the engine's schema in a database; dropped at the end.

    Raises:
        ConfigurationError: there is one of this name, which is not to be lost.
    """
    if connection.execute(_EXISTS, (schema,)).fetchone() == (True,):
        raise ConfigurationError(
            f"schema {schema} exists in {describe_dsn(dsn)}: a Workbench makes its own, and drops "
            f"it at the end. Name another by schema=…, or, if it was left by a test that was "
            f"killed: drop schema {schema} cascade"
        )
    try:
        # A connection of its own: the statements set their search_path.
        with psycopg.connect(dsn, autocommit=True) as migrating:
            migrating.execute(print_sql(schema).encode())
        yield
    finally:
        drop = sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(schema))
        connection.execute(drop)


def put_clock_forward(connection: psycopg.Connection[Any], schema: str, ahead: timedelta) -> None:
    """Has the schema's clock be ahead of the real one, and go on from there; then looks for
    deadlines, as a worker's sweep does every few seconds.

    The function is replaced, as ``sql/functions/ground/clock.sql`` says, since there is nothing in
    it that a test could set: it is read at every step.
    """
    name, by = sql.Identifier(schema), sql.Literal(ahead)
    clock = sql.SQL(
        "create or replace function {}.clock() returns timestamptz language sql volatile "
        "parallel safe as $$ select pg_catalog.clock_timestamp() + {} $$"
    )
    with connection.transaction():
        connection.execute(clock.format(name, by))
        # The worker has not been silent for so long: it lives.
        alive = "update {0}.worker set expires_at = {0}.clock() + lease"
        connection.execute(sql.SQL(alive).format(name))
    connection.execute(sql.SQL("select count(*) from {}.reap()").format(name))

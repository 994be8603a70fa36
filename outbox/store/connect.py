"""Connections to Postgres, and what may be said of them in a message."""

from __future__ import annotations

import os
import re
import socket
from contextlib import suppress
from typing import Any

import orjson
import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool

from outbox.errors import ConfigurationError
from outbox.store.arrays import register_arrays
from outbox.store.patience import Patience, PatientConnection
from outbox.telemetry import Telemetry

# Keepalives, so that a connection whose other end vanished is noticed before a lease runs out.
_DEFAULTS = {
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
}

Connection = AsyncConnection[tuple[Any, ...]]
Pool = AsyncConnectionPool[Connection]


def complete_dsn(dsn: str, *, setting: str = "OUTBOX_DSN", **more: str) -> str:
    """A DSN with our defaults where it says nothing itself; ``setting`` is where it comes from. Of
    several hosts it leads to the one that can be written to.

    Raises:
        ConfigurationError: it is not a DSN.
    """
    try:
        given = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError as error:
        # libpq quotes what it cannot parse, which may be a part of the password.
        reason = re.sub(r'"[^"]*"', '"…"', str(error).strip())
        raise ConfigurationError(
            f"{setting} is not a Postgres DSN ({reason}); "
            "it looks like postgresql://user:password@host:5432/database"
        ) from None
    several = {"target_session_attrs": "read-write"} if "," in str(given.get("host", "")) else {}
    return make_conninfo("", **{**_DEFAULTS, **several, **more, **given})


def describe_dsn(dsn: str) -> str:
    """A DSN for messages: where it leads, without its password."""
    given = conninfo_to_dict(dsn)
    where = f"{given.get('host') or 'the local socket'}:{given.get('port') or 5432}"
    name = given.get("dbname") or given.get("user") or os.environ.get("PGDATABASE")
    return f"{f'database {name}' if name else 'the default database'} at {where}"


async def configure(connection: Connection) -> None:
    """Makes a fresh connection ours: orjson for JSON, arrays by our own hand. No session state on
    the server."""
    set_json_loads(orjson.loads, connection)
    register_arrays(connection)


async def connect(
    dsn: str,
    *,
    prepared_statements: bool = True,
    name: str = "outbox",
    patience: Patience | None = None,
) -> PatientConnection:
    """One autocommit connection; ``patience`` looks after statements that have no answer for long.

    Raises:
        ConfigurationError: the DSN is malformed.
        psycopg.OperationalError: the database cannot be reached.
    """
    connection = await PatientConnection.connect(
        complete_dsn(dsn, application_name=name),
        autocommit=True,
        prepare_threshold=1 if prepared_statements else None,
    )
    await configure(connection)
    connection.patience = patience
    return connection


def make_patience(dsn: str, telemetry: Telemetry, seconds: float) -> Patience:
    """Looks after statements that have had no answer for so many seconds."""
    return Patience(
        lambda: connect(dsn, prepared_statements=False, name="outbox look"),
        cut,
        telemetry,
        seconds,
    )


def cut(connection: Connection | psycopg.Connection[Any]) -> None:
    """Breaks a connection that somebody else may be waiting on, whose statement then fails. To
    close it would free what libpq is using for them, and corrupt this process's memory."""
    if not connection.closed:
        with socket.socket(fileno=os.dup(connection.fileno())) as ours, suppress(OSError):
            ours.shutdown(socket.SHUT_RDWR)


def make_pool(dsn: str, *, size: int, prepared_statements: bool, name: str) -> Pool:
    """A pool of up to ``size`` autocommit connections, not yet open. It checks nothing on loan: a
    broken connection shows in the statement that uses it, and is not lent again."""
    return AsyncConnectionPool(
        complete_dsn(dsn, application_name=name),
        min_size=1,
        max_size=size,
        open=False,
        configure=configure,
        reconnect_timeout=0,
        kwargs={"autocommit": True, "prepare_threshold": 1 if prepared_statements else None},
    )

"""Rows of views and functions as frozen dataclasses, whose fields are the columns that are read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, LiteralString, TypeVar

from psycopg import AsyncConnection, sql
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from outbox.errors import translated
from outbox.store.columns import columns_of

Reader = AsyncConnection[Any]
R = TypeVar("R")


async def read(
    connection: Reader,
    schema: str,
    row: type[R],
    source: LiteralString,
    parameters: Sequence[Any] = (),
) -> list[R]:
    """The rows of a view or of a function's call, each as a ``row``.

    Args:
        row: a dataclass; the names of its fields are the columns that are selected.
        source: what follows ``from``, with ``{}`` for the schema: ``{}.stuck order by stuck_for``.
        parameters: of the source.

    Raises:
        OutboxError: the database refuses an argument.
    """
    statement = sql.SQL("select {} from ").format(columns_of(row)) + sql.SQL(source).format(
        sql.Identifier(schema)
    )
    with translated():
        async with connection.cursor(row_factory=tuple_row) as cursor:
            await cursor.execute(statement, parameters)
            return [row(*found) for found in await cursor.fetchall()]


@asynccontextmanager
async def at_one_moment(connection: Reader) -> AsyncIterator[None]:
    """What is read inside is of one snapshot, unless the caller's transaction says otherwise."""
    if connection.info.transaction_status != TransactionStatus.IDLE:
        yield
        return
    async with connection.transaction():
        await connection.execute("set transaction isolation level repeatable read read only")
        yield

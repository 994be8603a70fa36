"""Runs a statement on a connection that the caller holds, sync or async, whichever it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, overload

from psycopg import AsyncConnection, Connection, sql
from psycopg.rows import tuple_row

from outbox.errors import translated

T = TypeVar("T")
Rows = list[tuple[Any, ...]]
Either = Connection[Any] | AsyncConnection[Any]


@overload
def perform(
    connection: Connection[Any],
    statement: sql.Composed,
    parameters: Sequence[Any],
    parse: Callable[[Rows], T],
) -> T: ...


@overload
def perform(
    connection: AsyncConnection[Any],
    statement: sql.Composed,
    parameters: Sequence[Any],
    parse: Callable[[Rows], T],
) -> Awaitable[T]: ...


def perform(
    connection: Either,
    statement: sql.Composed,
    parameters: Sequence[Any],
    parse: Callable[[Rows], T],
) -> T | Awaitable[T]:
    """Executes in the connection's own transaction, fetches all rows and parses them.

    Returns:
        What ``parse`` makes of the rows; for an async connection an awaitable of it.

    Raises:
        OutboxError: where the database's error is one of ours; others are raised as they are.
    """
    if isinstance(connection, AsyncConnection):
        return _perform_async(connection, statement, parameters, parse)
    with translated(), connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(statement, parameters)
        return parse(cursor.fetchall())


async def _perform_async(
    connection: AsyncConnection[Any],
    statement: sql.Composed,
    parameters: Sequence[Any],
    parse: Callable[[Rows], T],
) -> T:
    with translated():
        async with connection.cursor(row_factory=tuple_row) as cursor:
            await cursor.execute(statement, parameters)
            return parse(await cursor.fetchall())

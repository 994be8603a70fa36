"""A connection that comes back: each part of the engine has one of its own."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Self, TypeVar

import psycopg

from outbox.store.connect import Connection, connect, cut
from outbox.telemetry import Telemetry

T = TypeVar("T")

_FIRST_WAIT = 0.1


def is_transient(error: psycopg.Error) -> bool:
    """Whether the same statement may well succeed later: the database is away, restarting, failing
    over, overloaded, or ended the transaction in another's favour. Not: it dislikes the data, or
    they are beyond a limit of its program."""
    if (error.sqlstate or "").startswith("54"):
        return False
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return True
    return (error.sqlstate or "").startswith("25006")  # read-only: a standby, not yet promoted


class InterruptedStatementError(Exception):
    """A statement failed in a way that leaves open whether it was committed."""


class Link:
    """One autocommit connection, made when needed and made anew, with backoff, when it breaks.

    Args:
        dsn: where to.
        name: its ``application_name``, for people who look at ``pg_stat_activity``.
        longest_wait: seconds that it waits at most before it tries again.
    """

    def __init__(
        self,
        dsn: str,
        *,
        name: str,
        prepared_statements: bool,
        telemetry: Telemetry,
        longest_wait: float = 5.0,
    ) -> None:
        self._dsn = dsn
        self._name = name
        self._prepared = prepared_statements
        self._telemetry = telemetry
        self._longest_wait = longest_wait
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()
        self._failures = 0

    async def once(
        self, work: Callable[[Connection], Awaitable[T]], *, within: float | None = None
    ) -> T:
        """Runs ``work`` on the connection, waiting for one if need be.

        Args:
            within: seconds that the database has for its answer.

        Raises:
            InterruptedStatementError: it may or may not have been committed; ask before going on.
            TimeoutError: the same, and the next use makes a new connection.
            psycopg.Error: the database refused it, and will again.
        """
        connection = await self._connected()
        try:
            if within is None:
                result = await work(connection)
            else:
                result = await self._answer(connection, work, within)
        except psycopg.Error as error:
            if not is_transient(error):
                raise
            await self._failed(error)
            raise InterruptedStatementError from error
        self._failures = 0
        return result

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Runs ``work``, which must be safe to run again, until it succeeds.

        Raises:
            psycopg.Error: the database refused it, and will again.
        """
        while True:
            try:
                return await self.once(work)
            except InterruptedStatementError:
                continue

    async def drop(self) -> None:
        """Closes the connection; the next use makes a new one."""
        connection, self._connection = self._connection, None
        if connection is not None and connection.lock.locked():
            cut(connection)  # a handler that was left behind is using it
        elif connection is not None:
            await connection.close()

    async def _answer(
        self, connection: Connection, work: Callable[[Connection], Awaitable[T]], within: float
    ) -> T:
        """What ``work`` returns, if it does so in time. Else psycopg asks the server to cancel the
        statement, which one that waits for a lock does; a server that hangs would not, and psycopg
        would wait for ten seconds, so after half as long again the connection is cut."""
        answering = asyncio.ensure_future(work(connection))
        try:
            await asyncio.wait({answering}, timeout=within)
            if not answering.done():
                raise TimeoutError
        finally:
            if not answering.done():
                answering.cancel()
                await asyncio.wait({answering}, timeout=within / 2)
                if not answering.done():
                    cut(connection)
                await asyncio.gather(answering, return_exceptions=True)
                await self.drop()
        return answering.result()

    async def _connected(self) -> Connection:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        async with self._connecting:  # however many need it, it is one
            while self._connection is None or self._connection.closed:
                try:
                    self._connection = await connect(
                        self._dsn, prepared_statements=self._prepared, name=self._name
                    )
                except psycopg.Error as error:
                    await self._failed(error)
                    continue
                if self._failures:
                    self._telemetry.emit("database_back", connection=self._name)
            return self._connection

    async def _failed(self, error: psycopg.Error) -> None:
        """Notes a failure, and waits longer after each one in a row."""
        connection = self._connection
        if connection is None or connection.broken or connection.closed:
            await self.drop()
        self._failures += 1
        longest = min(self._longest_wait, _FIRST_WAIT * 2 ** min(self._failures - 1, 10))
        wait = longest * random.uniform(0.5, 1)
        self._telemetry.emit(
            "database_trouble",
            "warning",
            connection=self._name,
            error=str(error).strip(),
            sqlstate=error.sqlstate,
            retry_in=round(wait, 2),
        )
        await asyncio.sleep(wait)


class Links:
    """Makes links to one database, and closes them all at the end; an async context manager."""

    def __init__(self, dsn: str, *, prepared_statements: bool, telemetry: Telemetry) -> None:
        self._dsn = dsn
        self._prepared = prepared_statements
        self._telemetry = telemetry
        self._made: list[Link] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for link in self._made:
            await link.drop()

    def make(self, name: str, dsn: str | None = None, *, longest_wait: float = 5.0) -> Link:
        """One more link, known as ``outbox <name>`` in ``pg_stat_activity``."""
        link = Link(
            dsn or self._dsn,
            name=f"outbox {name}",
            prepared_statements=self._prepared,
            telemetry=self._telemetry,
            longest_wait=longest_wait,
        )
        self._made.append(link)
        return link

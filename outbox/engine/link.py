"""A connection that comes back: each part of the engine has one of its own."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Self, TypeVar

import psycopg

from outbox.store.connect import Connection, connect, cut
from outbox.store.patience import Patience
from outbox.telemetry import Telemetry

T = TypeVar("T")

_FIRST_WAIT = 0.1
# What a person has to mend, upon which a worker goes on by itself.
_REMEDIES = {
    "25006": "this server can only be read: OUTBOX_DSN leads to a standby; name all hosts in it "
    "(host=a,b), and the one that can be written to is taken",
    "3F000": "the schema is missing: restore it, or run bin/saga migrate",
    "42501": "grant this worker's login the role saga_worker; bin/saga migrate --roles makes it",
    "42883": "the schema is missing or behind: restore it, or run bin/saga migrate",
    "42P01": "the schema is missing or behind: restore it, or run bin/saga migrate",
    "53100": "the database's disk is full: make room there",
    "53300": "the database has no connection left: raise max_connections, or run fewer workers",
    "55P03": "this login has a lock_timeout: alter role … reset lock_timeout; or somebody holds a "
    "lock on the tables for long",
    "57014": "somebody cancelled it, or this login has a statement_timeout that is too short: "
    "alter role … reset statement_timeout",
}
_MENDABLE = ("3F000", "42501", "42883", "42P01")


def is_transient(error: psycopg.Error) -> bool:
    """Whether the same statement may well succeed later: the database is away, restarting, failing
    over, overloaded, or ended the transaction in another's favour. Not: it dislikes the data, or
    they are beyond a limit of its program."""
    if (error.sqlstate or "").startswith("54"):
        return False
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return True
    return _is_read_only(error)


def _is_read_only(error: psycopg.Error) -> bool:
    return error.sqlstate == "25006"  # a standby, not yet promoted, or a primary no more


class InterruptedStatementError(Exception):
    """A statement failed in a way that leaves open whether it was committed."""


class Link:
    """One autocommit connection, made when needed and made anew, with backoff, when it breaks.

    Args:
        dsn: where to.
        name: its ``application_name``, for people who look at ``pg_stat_activity``.
        longest_wait: seconds that it waits at most before it tries again.
        patience: looks after statements that have no answer for long.
        steadfast: a grant or a table that is missing is waited for as well.
    """

    def __init__(
        self,
        dsn: str,
        *,
        name: str,
        prepared_statements: bool,
        telemetry: Telemetry,
        longest_wait: float = 5.0,
        patience: Patience | None = None,
        steadfast: bool = True,
    ) -> None:
        self._dsn = dsn
        self._name = name
        self._prepared = prepared_statements
        self._telemetry = telemetry
        self._longest_wait = longest_wait
        self._patience = patience
        self._steadfast = steadfast
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
            if not (is_transient(error) or (self._steadfast and error.sqlstate in _MENDABLE)):
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
                        self._dsn,
                        prepared_statements=self._prepared,
                        name=self._name,
                        patience=self._patience,
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
        # A standby is left too: the DSN may lead to another server by now.
        if connection is None or connection.broken or connection.closed or _is_read_only(error):
            await self.drop()
        self._failures += 1
        longest = min(self._longest_wait, _FIRST_WAIT * 2 ** min(self._failures - 1, 10))
        wait = longest * random.uniform(0.5, 1)
        remedy = _REMEDIES.get(error.sqlstate or "")
        self._telemetry.emit(
            "database_trouble",
            "warning",
            connection=self._name,
            # Not its context, which is the text of the statement.
            error=error.diag.message_primary or str(error).strip(),
            sqlstate=error.sqlstate,
            retry_in=round(wait, 2),
            **({} if remedy is None else {"remedy": remedy}),
        )
        await asyncio.sleep(wait)


class Links:
    """Makes links to one database, and closes them all at the end; an async context manager."""

    def __init__(
        self,
        dsn: str,
        *,
        prepared_statements: bool,
        telemetry: Telemetry,
        patience: Patience | None = None,
    ) -> None:
        self._dsn = dsn
        self._prepared = prepared_statements
        self._telemetry = telemetry
        self._patience = patience
        self._made: list[Link] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for link in self._made:
            await link.drop()

    def make(
        self,
        name: str,
        dsn: str | None = None,
        *,
        longest_wait: float = 5.0,
        steadfast: bool = True,
    ) -> Link:
        """One more link, known as ``outbox <name>`` in ``pg_stat_activity``."""
        link = Link(
            dsn or self._dsn,
            name=f"outbox {name}",
            prepared_statements=self._prepared,
            telemetry=self._telemetry,
            longest_wait=longest_wait,
            patience=self._patience,
            steadfast=steadfast,
        )
        self._made.append(link)
        return link

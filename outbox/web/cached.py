"""What many pages show, read seldom."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import psycopg
from psycopg import AsyncConnection

T = TypeVar("T")

_TIMES = 20  # what takes long to read is read so much more seldom


class Cached(Generic[T]):
    """A value of the database, read again when it is old: after some seconds, or after twenty times
    as long as it takes to read.

    Args:
        read: reads it.
        seconds: for so long at least it is taken as it is.
        clock: seconds, of which only differences count.
    """

    def __init__(
        self,
        read: Callable[[AsyncConnection[Any]], Awaitable[T]],
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read, self._seconds, self._clock = read, seconds, clock
        self._value: T | None = None
        self._until = float("-inf")

    async def get(self, connection: AsyncConnection[Any], within: float | None = None) -> T | None:
        """The value.

        Args:
            connection: in a transaction.
            within: give up after so many seconds; None: never.

        Returns:
            What was read last; None where it could never be read in time.
        """
        begun = self._clock()
        if begun < self._until:
            return self._value
        if within is None:
            self._value = await self._read(connection)
        else:
            try:
                async with connection.transaction():
                    await _limit(connection, f"{within * 1000:.0f}ms")
                    self._value = await self._read(connection)
                    await _limit(connection, "10s")
            except psycopg.errors.QueryCanceled:
                pass  # the one before is better than none
        now = self._clock()
        self._until = now + max(self._seconds, (now - begun) * _TIMES)
        return self._value


async def _limit(connection: AsyncConnection[Any], time: str) -> None:
    await connection.execute("select set_config('statement_timeout', %s, true)", (time,))

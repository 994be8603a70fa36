"""The wake-up: LISTEN on a direct connection. Without it an idle worker still looks every poll."""

from __future__ import annotations

import asyncio

from psycopg import sql

from outbox.engine.link import InterruptedStatementError, Link
from outbox.store.connect import Connection

_LOOK_ANEW = 20.0


class Wake:
    """An event that is set when somebody starts a saga while this worker is idle."""

    def __init__(self, link: Link, channel: str) -> None:
        self._link = link
        self._channel = channel
        self.event = asyncio.Event()

    async def listen(self) -> None:
        """Listens until cancelled."""
        while True:
            try:
                await self._link.once(self._listen)
            except InterruptedStatementError:
                self.event.set()  # what was said meanwhile was not heard

    async def _listen(self, connection: Connection) -> None:
        await connection.execute(sql.SQL("listen {}").format(sql.Identifier(self._channel)))
        self.event.set()
        while True:
            async for _ in connection.notifies(timeout=_LOOK_ANEW):
                self.event.set()
            # A round trip now and then tells a dead connection from a silent one.
            await connection.execute("select 1")

    async def wait(self, seconds: float) -> None:
        """Waits for a wake-up, but no longer than that."""
        try:
            async with asyncio.timeout(seconds):
                await self.event.wait()
        except TimeoutError:
            return

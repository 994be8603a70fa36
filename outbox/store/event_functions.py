"""The calls of the SQL functions that bring events on their way."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from outbox.store.connect import Connection
from outbox.store.functions import call


class Lane(NamedTuple):
    """The events of a saga on their way to a subscription, for which a job is to be made.
    ``channel``: ``function``, ``webhook`` or ``mail``. ``is_stray``: it has had one, which may be
    lost."""

    subscription: str
    saga_id: UUID
    channel: str
    is_stray: bool


class Taken(NamedTuple):
    """What ``take_delivery`` answers: an event that is to be delivered now (``verdict`` is
    ``taken``), how long to ``wait`` for one, or that there is ``none``."""

    verdict: str
    wait: timedelta | None
    fence: int
    number: int
    seq: int
    type: str
    version: int
    key: str | None
    step: str
    name: str
    payload: Any
    at: datetime
    attempt: int
    url: str | None
    secrets: list[str] | None
    timeout: timedelta


class EventFunctions:
    """The relay's SQL functions in one schema; every method takes the connection to use."""

    def __init__(self, schema: str) -> None:
        self.schema = schema
        self.channel = f"{schema}_relay"
        self._register = call(schema, "select {}.register_subscriber(%s, %s, %s, %s, %s, %s)")
        self._has_webhooks = call(schema, "select {}.has_webhooks()")
        self._route = call(schema, "select * from {}.route_events(%s, %s)")
        self._take = call(schema, "select * from {}.take_delivery(%s, %s, %s)")
        self._delivered = call(schema, "select {}.delivered(%s, %s, %s, %s)")
        self._not_delivered = call(
            schema, "select {}.not_delivered(%s, %s, %s, %s, %s, %s, %s, %s)"
        )

    async def register_subscriber(
        self,
        connection: Connection,
        name: str,
        patterns: Sequence[str],
        policy: tuple[timedelta, int, timedelta, timedelta],
    ) -> None:
        """Makes a function known that is to be told of events."""
        await connection.execute(self._register, (name, list(patterns), *policy))

    async def has_webhooks(self, connection: Connection) -> bool:
        """Whether events are to be sent to any URL."""
        row = await (await connection.execute(self._has_webhooks)).fetchone()
        return bool(row and row[0])

    async def route(
        self, connection: Connection, limit: int, overdue: timedelta | None
    ) -> tuple[list[Lane], bool]:
        """Turns events into deliveries: the lanes that a job is to be made for, in the same
        transaction, and whether there may be more events."""
        rows = await (await connection.execute(self._route, (limit, overdue))).fetchall()
        return [Lane(*row[:4]) for row in rows if not row[4]], any(row[4] for row in rows)

    async def take(
        self, connection: Connection, subscription: str, saga_id: UUID, leeway: timedelta
    ) -> Taken:
        """Takes the next event of a lane."""
        cursor = await connection.execute(self._take, (subscription, saga_id, leeway))
        row = await cursor.fetchone()
        assert row is not None, "take_delivery answers one row"
        return Taken(*row)

    async def delivered(
        self, connection: Connection, subscription: str, saga_id: UUID, taken: Taken
    ) -> bool:
        """Tells that an event was delivered; False: somebody else has taken it meanwhile."""
        cursor = await connection.execute(
            self._delivered, (subscription, saga_id, taken.number, taken.fence)
        )
        row = await cursor.fetchone()
        return bool(row and row[0])

    async def not_delivered(
        self,
        connection: Connection,
        subscription: str,
        saga_id: UUID,
        taken: Taken,
        error: str,
        *,
        after: timedelta | None = None,
        gone: bool = False,
        counted: bool = True,
    ) -> str:
        """Tells that an event was not delivered: ``retry``, ``dead``, ``gone`` or ``fenced``."""
        cursor = await connection.execute(
            self._not_delivered,
            (subscription, saga_id, taken.number, taken.fence, error, after, gone, counted),
        )
        row = await cursor.fetchone()
        assert row is not None, "not_delivered answers one row"
        return str(row[0])

"""Finding sagas: by what they are and how they stand, by key or id, and how many there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson

from outbox.definition.outcomes import storable
from outbox.errors import InputError, NotFoundError
from outbox.viewer.read import Reader, at_one_moment, read

STATUSES = ("CREATED", "EXECUTING", "COMPENSATING", "SUSPENDED", "COMPLETED", "FAILED")
LIVE = STATUSES[:4]


@dataclass(frozen=True, slots=True)
class SagaRow:
    """A saga in a list, as the view ``overview`` shows it. Of a finished one ``step`` to ``due_at``
    are None; ``error`` is the JSON of what it failed with."""

    saga_id: UUID
    type: str
    version: int
    key: str
    status: str
    state: str
    step: str | None
    kind: str | None
    attempts: int | None
    seq: int | None
    reason: str | None
    worker: UUID | None
    due_at: datetime | None
    moved_at: datetime | None
    created_at: datetime
    ended_at: datetime | None
    age: timedelta
    error: dict[str, Any] | None
    paused: bool | None


@dataclass(frozen=True, slots=True)
class SagaFilter:
    """Which sagas; what is None is not asked for.

    Args:
        type: exact.
        statuses: any of ``STATUSES``.
        state: of its domain, or COMPLETED, FAILED, CANCELLED.
        step: of living sagas where they are ("step", of an element "step/place"), of failed ones
            where they failed.
        error: the type of a failed saga's error, or of what a living one's step met last.
        key: the whole key.
        key_prefix: how it begins.
        older_than, younger_than: since the saga's start.
    """

    type: str | None = None
    statuses: tuple[str, ...] = ()
    state: str | None = None
    step: str | None = None
    error: str | None = None
    key: str | None = None
    key_prefix: str | None = None
    older_than: timedelta | None = None
    younger_than: timedelta | None = None

    def as_json(self) -> str:
        """As the function ``find_sagas`` takes it.

        Raises:
            InputError: a text in it is none that Postgres can store.
        """
        given = {
            "type": self.type,
            "status": list(self.statuses) or None,
            "state": self.state,
            "step": self.step,
            "error": self.error,
            "key": self.key,
            "key_prefix": self.key_prefix,
            "older_than": _interval(self.older_than),
            "younger_than": _interval(self.younger_than),
        }
        for value in given.values():
            if isinstance(value, str) and storable(value) != value:
                raise InputError(f"{value!r} contains what Postgres cannot store")
        return orjson.dumps({k: v for k, v in given.items() if v is not None}).decode()


@dataclass(frozen=True, slots=True)
class Page:
    """Sagas, the newest first. ``next`` is what the next page is asked for with; None: this is the
    last. Where sagas that fit are rare a page may be short, even empty, and still have a next:
    ``searched_to`` says how far back it looked."""

    rows: list[SagaRow]
    next: UUID | None

    @property
    def searched_to(self) -> datetime | None:
        """When the sagas began of which the next page is; None: there is none."""
        return None if self.next is None else made_at(self.next)


@dataclass(frozen=True, slots=True)
class Count:
    """How many sagas of a type have a status."""

    type: str
    status: str
    sagas: int


@dataclass(frozen=True, slots=True)
class Counts:
    """How many sagas live, and how many ended lately."""

    live: list[Count]
    ended: list[Count]
    window: timedelta

    def living(self, status: str | None = None, type: str | None = None) -> int:
        """How many live, of a status and of a type where these are given."""
        return sum(
            c.sagas for c in self.live if status in (None, c.status) and type in (None, c.type)
        )


@dataclass(frozen=True, slots=True)
class _PageOfIds:
    ids: list[UUID]
    next_before: UUID | None


async def find_sagas(
    connection: Reader,
    schema: str,
    filter: SagaFilter | None = None,
    before: UUID | None = None,
    limit: int = 50,
) -> Page:
    """One page of the sagas that a filter finds, the newest first.

    Args:
        before: the ``next`` of the page before; None: the first page.
        limit: how many at most, 1 to 1000.

    Raises:
        InputError: the filter asks for what cannot be.
    """
    given = (filter or SagaFilter()).as_json()
    async with at_one_moment(connection):
        (found,) = await read(
            connection, schema, _PageOfIds, "{}.saga_page(%s::text::jsonb, %s, %s)",
            (given, before, limit),
        )  # fmt: skip
        return Page(await rows_of(connection, schema, found.ids), found.next_before)


async def rows_of(connection: Reader, schema: str, ids: Sequence[UUID]) -> list[SagaRow]:
    """These sagas as they stand now, the newest first; those that are gone are left out."""
    if not ids:
        return []
    return await read(
        connection, schema, SagaRow,
        "{}.overview where saga_id = any(%s) order by saga_id desc", (list(ids),),
    )  # fmt: skip


async def search(connection: Reader, schema: str, text: str, limit: int = 50) -> list[SagaRow]:
    """The sagas whose id or key is this text, then those whose key begins with it, of any type."""
    text = text.strip()
    if not text or storable(text) != text:
        return []
    found: dict[UUID, SagaRow] = {}
    wanted = [SagaFilter(key=text), SagaFilter(key_prefix=text)]
    if (saga_id := as_id(text)) is not None:
        found = {row.saga_id: row for row in await rows_of(connection, schema, [saga_id])}
    for filter in wanted:
        page = await find_sagas(connection, schema, filter, limit=limit)
        found |= {row.saga_id: row for row in page.rows if row.saga_id not in found}
    return list(found.values())[:limit]


async def find_id(connection: Reader, schema: str, given: str) -> UUID:
    """The id of the saga that a person names by its id or its key.

    Raises:
        NotFoundError: no saga has this key, or several types have one with it.
    """
    saga_id = as_id(given)
    # A key may look like an id: many keys are UUIDs.
    if saga_id is not None and await rows_of(connection, schema, [saga_id]):
        return saga_id
    found = (await find_sagas(connection, schema, SagaFilter(key=given))).rows
    if not found:
        raise NotFoundError(f"no saga has the id or key {given!r}")
    if len(found) > 1:
        choices = ", ".join(f"{row.type} {row.saga_id}" for row in found)
        raise NotFoundError(f"several sagas have the key {given!r}, name one by its id: {choices}")
    return found[0].saga_id


async def counts(connection: Reader, schema: str, window: timedelta = timedelta(hours=1)) -> Counts:
    """How many sagas live, by type and status, and how many have ended within a window."""
    async with at_one_moment(connection):
        live = await read(connection, schema, Count, "{}.counts order by type, status")
        gone = await ended(connection, schema, window)
    return Counts(live, gone, window)


async def ended(connection: Reader, schema: str, window: timedelta) -> list[Count]:
    """How many sagas have ended within a window, by type and status."""
    return await read(connection, schema, Count, "{}.ended_since(%s)", (window,))


async def live_counts(connection: Reader, schema: str) -> list[Count]:
    """How many sagas live, by type and status."""
    return await read(connection, schema, Count, "{}.counts order by type, status")


def as_id(text: str) -> UUID | None:
    """A text as a saga's id, or None."""
    try:
        return UUID(text)
    except ValueError:
        return None


def made_at(saga_id: UUID) -> datetime:
    """When a saga's id was made: the milliseconds that a UUID of version 7 begins with (RFC
    9562)."""
    return datetime.fromtimestamp((saga_id.int >> 80) / 1000, UTC)


def _interval(duration: timedelta | None) -> str | None:
    return None if duration is None else f"{duration.total_seconds()} seconds"

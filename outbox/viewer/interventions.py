"""What waits for a person, and what people did about the like before."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from outbox.operator import Operator, Resolution
from outbox.viewer.read import Reader, read


@dataclass(frozen=True, slots=True)
class Intervention:
    """A suspended line of a saga. ``attempts`` of its command were made; ``error`` is what the last
    one met; ``in_doubt``: it may have had its effect. ``line`` is None on the main line; ``seq`` is
    what an act is told that its operator has seen."""

    saga_id: UUID
    type: str
    version: int
    key: str
    state: str
    step: str
    kind: str
    reason: str
    error: dict[str, Any] | None
    attempts: int
    seq: int
    since: datetime
    waiting: timedelta
    in_doubt: bool
    input: Any
    element: int | None
    line: UUID | None

    @property
    def name(self) -> str:
        """Its step; of an element "step/place"."""
        return self.step if self.element is None else f"{self.step}/{self.element}"


@dataclass(frozen=True, slots=True)
class Queue:
    """A page of what waits for a person, the longest first; ``next`` is what the next page is asked
    for with."""

    rows: list[Intervention]
    next: tuple[datetime, UUID] | None


async def interventions(
    connection: Reader,
    schema: str,
    *,
    type: str | None = None,
    step: str | None = None,
    error: str | None = None,
    after: tuple[datetime, UUID] | None = None,
    limit: int = 50,
) -> Queue:
    """What waits for a person, the longest first.

    Args:
        type, step, error: of these only; of an error its type.
        after: the ``next`` of the page before.
    """
    since, saga_id = after or (None, None)
    rows = await read(
        connection, schema, Intervention,
        "{}.manual_intervention where (%s::text is null or type = %s) "
        "and (%s::text is null or step = %s) "
        "and (%s::text is null or error ->> 'type' = %s) "
        "and (%s::timestamptz is null or (since, saga_id) > (%s, %s)) "
        "order by since, saga_id, line limit %s",
        (type, type, step, step, error, error, since, since, saga_id, limit + 1),
    )  # fmt: skip
    page = rows[:limit]
    # All lines of a saga that are suspended since one instant stand on one page.
    while page and len(rows) > limit and _place(page[-1]) == _place(rows[limit]) != _place(page[0]):
        page.pop()
    more = len(rows) > len(page)
    return Queue(page, _place(page[-1]) if more and page else None)


@dataclass(frozen=True, slots=True)
class Group:
    """What waits for a person alike: at one step, after errors of one type (None: no error).
    ``since``: the longest."""

    type: str
    step: str
    error: str | None
    count: int
    since: datetime


@dataclass(frozen=True, slots=True)
class _Brief:
    type: str
    step: str
    error: dict[str, Any] | None
    since: datetime


async def groups(connection: Reader, schema: str, limit: int = 1000) -> list[Group]:
    """What waits for a person, those alike together, the most first; of the ``limit`` that wait
    the longest."""
    rows = await read(
        connection, schema, _Brief, "{}.manual_intervention order by since limit %s", (limit,)
    )
    found: dict[tuple[str, str, str | None], list[datetime]] = {}
    for row in rows:
        found.setdefault((row.type, row.step, (row.error or {}).get("type")), []).append(row.since)
    together = [Group(*alike, len(since), since[0]) for alike, since in found.items()]
    return sorted(together, key=lambda group: -group.count)


async def past_resolutions(
    connection: Reader,
    schema: str,
    *,
    step: str | None = None,
    error: str | None = None,
    words: str | None = None,
    limit: int = 50,
) -> list[Resolution]:
    """What people did about suspended sagas before, the latest first: at this step, after an error
    of this type, with these words in the note, the reason or the error."""
    return await Operator(schema).past_resolutions(
        connection, step=step, error=error, words=words, limit=limit
    )


def _place(row: Intervention) -> tuple[datetime, UUID]:
    return (row.since, row.saga_id)

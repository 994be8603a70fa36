"""One saga whole: where it stands, all that happened to it, and what may be done about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from outbox.errors import NotFoundError
from outbox.viewer import fleet
from outbox.viewer.acts import Act, Line, acts_of
from outbox.viewer.fleet import PausedRow
from outbox.viewer.plan import PlanStep, flat, plan_of
from outbox.viewer.read import Reader, at_one_moment, read
from outbox.viewer.sagas import SagaRow, rows_of


@dataclass(frozen=True, slots=True)
class Overview:
    """Where a saga stands. ``step`` to ``due_at`` are of a living one, ``output`` and ``error``
    (JSON) of one that has ended. ``paused``: by itself or with others."""

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
    worker: UUID | None
    due_at: datetime | None
    reason: str | None
    created_at: datetime
    ended_at: datetime | None
    age: timedelta
    input: Any
    output: Any
    error: dict[str, Any] | None
    paused: bool | None
    moved_at: datetime | None
    deadline: datetime | None


@dataclass(frozen=True, slots=True)
class Moment:
    """A transition, or the start (``seq`` 0). ``after``: since the one before; ``took``: how long
    the attempt ran. ``element`` and ``line`` tell side by side work apart; ``ordinal`` is the
    command's, ``undoes`` that of what a compensation undoes. ``error`` is the text of
    ``error_detail``."""

    seq: int
    at: datetime
    after: timedelta | None
    step: str | None
    kind: str | None
    attempt: int | None
    outcome: str
    from_status: str | None
    to_status: str
    state: str | None
    result: Any
    error: str | None
    took: timedelta | None
    next_due: datetime | None
    worker: UUID | None
    what: str
    element: int | None
    line: UUID | None
    ordinal: int | None
    undoes: int | None
    error_detail: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Signal:
    """What a saga was told, by whom; ``taken_by`` is the step that took it, None: none has yet."""

    number: int
    at: datetime
    name: str
    key: str
    payload: Any
    actor: str
    taken_by: str | None


@dataclass(frozen=True, slots=True)
class Event:
    """What a saga told the world."""

    number: int
    at: datetime
    seq: int
    step: str
    name: str
    payload: Any
    delivered: int
    waiting: int
    dead: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event (its number) on its way to a subscription; ``status`` is waiting, delivered or
    dead."""

    event: int
    subscription: str
    status: str
    attempts: int
    error: str | None
    at: datetime | None


@dataclass(frozen=True, slots=True)
class ActRow:
    """What a person did, and what was suspended then."""

    seq: int
    at: datetime
    act: str
    actor: str
    note: str
    detail: dict[str, Any] | None
    step: str | None
    reason: str | None
    error: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Relative:
    """Another saga that this one belongs to: ``relation`` is ``parent``, ``sub-saga`` (started by
    ``step``), ``rerun of`` or ``rerun as`` (with its ``note``). ``saga`` is None where retention
    has removed it."""

    relation: str
    other: UUID
    step: str | None
    note: str | None
    saga: SagaRow | None


@dataclass(frozen=True, slots=True)
class Whole:
    """All that is known of a saga, at one moment."""

    overview: Overview
    timeline: list[Moment]
    lines: list[Line]
    signals: list[Signal]
    events: list[Event]
    deliveries: list[Delivery]
    operator_acts: list[ActRow]
    relatives: list[Relative]
    pauses: list[PausedRow]
    plan: list[PlanStep]
    acts_that_apply: list[Act]


@dataclass(frozen=True, slots=True)
class _Related:
    relation: str
    other: UUID
    step: str | None
    note: str | None


async def overview(connection: Reader, schema: str, saga_id: UUID) -> Overview:
    """Where a saga stands.

    Raises:
        NotFoundError: no saga has this id.
    """
    found = await read(connection, schema, Overview, "{}.overview where saga_id = %s", (saga_id,))
    if not found:
        raise NotFoundError(f"no saga has the id {saga_id}")
    return found[0]


async def timeline(connection: Reader, schema: str, saga_id: UUID, after: int = -1) -> list[Moment]:
    """A saga's history in order; only what came after a ``seq`` where one is given."""
    return await read(
        connection, schema, Moment,
        "{}.timeline where saga_id = %s and seq > %s order by seq, at", (saga_id, after),
    )  # fmt: skip


async def lines(connection: Reader, schema: str, saga_id: UUID) -> list[Line]:
    """What the lines of a living saga are at, the main line first; none of a finished one."""
    return await read(connection, schema, Line, "{}.lines_of(%s)", (saga_id,))


async def signals(connection: Reader, schema: str, saga_id: UUID) -> list[Signal]:
    """What a saga was told, in order."""
    return await read(
        connection, schema, Signal, "{}.signals where saga_id = %s order by number", (saga_id,)
    )


async def whole(connection: Reader, schema: str, saga_id: UUID) -> Whole:
    """All that is known of a saga.

    Raises:
        NotFoundError: no saga has this id.
    """
    async with at_one_moment(connection):
        seen = await overview(connection, schema, saga_id)
        history = await timeline(connection, schema, saga_id)
        now = await lines(connection, schema, saga_id)
        found = await fleet.definitions(connection, schema, seen.type, seen.version)
        plan = plan_of(found[0].steps) if found else []
        pauses = await read(
            connection, schema, PausedRow,
            "{}.paused where saga_id = %s or (saga_id is null and (type is null or type = %s)) "
            "order by since", (saga_id, seen.type),
        )  # fmt: skip
        return Whole(
            overview=seen,
            timeline=history,
            lines=now,
            signals=await signals(connection, schema, saga_id),
            events=await _of(connection, schema, Event, "{}.events", saga_id, "number"),
            deliveries=await _of(connection, schema, Delivery, "{}.deliveries", saga_id, "event"),
            operator_acts=await _of(connection, schema, ActRow, "{}.acts", saga_id, "seq"),
            relatives=await _relatives(connection, schema, saga_id),
            pauses=pauses if now else [],
            plan=plan,
            acts_that_apply=acts_of(
                seen.status,
                now,
                paused=any(pause.saga_id == saga_id for pause in pauses),
                past_pivot=_pivot_done(plan, history),
                done=_done(history),
                signals=sorted({step.signal for step in flat(plan) if step.signal}),
            ),
        )


async def _of(
    connection: Reader, schema: str, row: type[Any], view: Any, saga_id: UUID, order: Any
) -> list[Any]:
    return await read(
        connection, schema, row, f"{view} where saga_id = %s order by {order}", (saga_id,)
    )


async def _relatives(connection: Reader, schema: str, saga_id: UUID) -> list[Relative]:
    related = await read(
        connection, schema, _Related, "{}.relatives where saga_id = %s order by other", (saga_id,)
    )
    rows = await rows_of(connection, schema, [one.other for one in related])
    known = {row.saga_id: row for row in rows}
    return [
        Relative(one.relation, one.other, one.step, one.note, known.get(one.other))
        for one in related
    ]


def _pivot_done(plan: Sequence[PlanStep], history: Sequence[Moment]) -> str | None:
    pivots = {step.name for step in flat(plan) if step.pivot}
    for moment in history:
        if moment.step in pivots and moment.kind != "compensation" and moment.outcome == "done":
            return moment.step
    return None


def _done(history: Sequence[Moment]) -> list[str]:
    """The steps ("step/place" of an element) that are done and have not been undone."""
    undone = {m.undoes for m in history if m.kind == "compensation" and m.outcome == "done"}
    found: dict[str, None] = {}
    for moment in history:
        if moment.kind in ("action", "reconcile") and moment.outcome == "done":
            name = f"{moment.step}/{moment.element}" if moment.element is not None else moment.step
            if moment.ordinal not in undone and name is not None:
                found[name] = None
    return list(found)

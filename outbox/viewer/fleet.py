"""What runs sagas, and what holds for many of them: workers, limits, schedules, versions, pauses,
subscriptions; and what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from outbox.viewer.read import Reader, read


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A registered worker process. ``runs`` are its types as "order v1"; ``in_hand`` the commands
    that it holds."""

    worker: UUID
    host: str
    pid: int
    runs: list[str]
    standing: Literal["alive", "draining", "dead"]
    idle: bool
    heartbeat_age: timedelta
    lease: timedelta
    in_hand: int
    started_at: datetime
    age: timedelta


@dataclass(frozen=True, slots=True)
class LimitRow:
    """A limit: ``amount`` at once or ``per`` a period, counted apart for each value of the input at
    the path ``key``. ``taken`` of it now, and how many sagas are ``queued`` for it."""

    type: str
    name: str
    amount: int
    per: timedelta | None
    key: str | None
    counts_waiting: bool
    set_by: str
    taken: int
    queued: int


@dataclass(frozen=True, slots=True)
class QueuedRow:
    """A saga that waits because of a limit; ``full``: the limit and key that it found full."""

    saga_id: UUID
    type: str
    version: int
    key: str
    full: str | None
    begun: bool
    rank: datetime
    age: timedelta


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """A recurring saga. ``next_tick`` is None while it is paused, or not known yet."""

    name: str
    type: str
    cron: str
    zone: str
    catch_up: str
    paused: bool
    last_tick: datetime
    next_tick: datetime | None
    input: dict[str, Any]


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A registered version of a type: its living sagas, and the live workers that run it."""

    type: str
    version: int
    registered_at: datetime
    live: int
    suspended: int
    oldest_start: datetime | None
    workers: int


@dataclass(frozen=True, slots=True)
class PausedRow:
    """What is paused: a saga; or a type; or, with neither, everything."""

    saga_id: UUID | None
    type: str | None
    key: str | None
    note: str
    actor: str
    since: datetime


@dataclass(frozen=True, slots=True)
class SubscriptionRow:
    """Who is told of events whose names fit ``patterns``; ``url`` is empty for a function of an
    app. ``waiting`` and ``dead`` count events that are still to be delivered, or were given up."""

    name: str
    patterns: list[str]
    url: str
    created_at: datetime
    actor: str
    waiting: int
    oldest: datetime | None
    dead: int
    disabled_at: datetime | None
    disabled_why: str | None


@dataclass(frozen=True, slots=True)
class RunningRow:
    """A command that a worker holds: since when, and until when at most."""

    saga_id: UUID
    type: str
    version: int
    key: str
    step: str
    kind: str
    attempt: int
    since: datetime | None
    running_for: timedelta | None
    until: datetime
    worker: UUID
    host: str | None
    pid: int | None
    heartbeat_age: timedelta | None
    stops_after: bool
    element: int | None
    line: UUID | None


@dataclass(frozen=True, slots=True)
class StuckRow:
    """A line of a saga that has not moved for too long, though its command was due."""

    saga_id: UUID
    type: str
    version: int
    key: str
    status: str
    state: str
    step: str
    kind: str
    attempts: int
    stuck_for: timedelta
    why: str
    element: int | None
    line: UUID | None


@dataclass(frozen=True, slots=True)
class WaitingRow:
    """A command that waits for a signal, a time, another saga, or lines beside it."""

    saga_id: UUID
    type: str
    version: int
    key: str
    step: str
    kind: str
    awaits: str
    what: str
    sub_saga: UUID | None
    since: datetime
    until: datetime | None
    element: int | None
    line: UUID | None


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong, about what, and what to do about it."""

    severity: Literal["error", "warning", "info"]
    finding: str
    subject: str | None
    detail: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Definition:
    """A registered version of a type. ``steps`` is JSON, one object a step, as it was registered:
    see ``outbox.viewer.saga.plan_of``."""

    type: str
    version: int
    registered_at: datetime
    deadline: timedelta | None
    steps: list[dict[str, Any]]
    input_schema: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _TypeInput:
    type: str
    input_schema: dict[str, Any]


async def health(connection: Reader, schema: str) -> list[Finding]:
    """What is wrong, the worst first; nothing: all is well."""
    return await read(connection, schema, Finding, "{}.health")


async def workers(connection: Reader, schema: str) -> list[WorkerRow]:
    """Every registered worker, by host and pid."""
    return await read(connection, schema, WorkerRow, "{}.workers order by host, pid, worker")


async def limits(connection: Reader, schema: str, type: str | None = None) -> list[LimitRow]:
    """The limits, of a type where one is given."""
    return await read(
        connection, schema, LimitRow,
        "{}.limits where %s::text is null or type = %s order by type, name", (type, type),
    )  # fmt: skip


async def queued(connection: Reader, schema: str, limit: int = 100) -> list[QueuedRow]:
    """The sagas that wait because of a limit, in the order in which they are let in."""
    return await read(
        connection, schema, QueuedRow,
        "{}.queued order by type, begun desc, rank limit %s", (limit,),
    )  # fmt: skip


async def schedules(connection: Reader, schema: str) -> list[ScheduleRow]:
    """The recurring sagas, by name."""
    return await read(connection, schema, ScheduleRow, "{}.schedules order by name")


async def versions(connection: Reader, schema: str, type: str | None = None) -> list[VersionRow]:
    """Every registered version, of a type where one is given."""
    return await read(
        connection, schema, VersionRow,
        "{}.live_versions where %s::text is null or type = %s order by type, version",
        (type, type),
    )  # fmt: skip


async def definitions(
    connection: Reader, schema: str, type: str, version: int | None = None
) -> list[Definition]:
    """The registered versions of a type, the newest first; or this one."""
    return await read(
        connection, schema, Definition,
        "{}.definitions where type = %s and (%s::int is null or version = %s) "
        "order by version desc",
        (type, version, version),
    )  # fmt: skip


async def input_schemas(connection: Reader, schema: str) -> dict[str, dict[str, Any]]:
    """The JSON schema of the input of each type, in its newest version."""
    found = await read(connection, schema, _TypeInput, "{}.definitions order by type, version")
    return {one.type: one.input_schema for one in found}


async def paused(connection: Reader, schema: str) -> list[PausedRow]:
    """What is paused, the longest first."""
    return await read(connection, schema, PausedRow, "{}.paused order by since")


async def subscriptions(connection: Reader, schema: str) -> list[SubscriptionRow]:
    """Who is told of events, by name."""
    return await read(connection, schema, SubscriptionRow, "{}.subscriptions order by name")


async def running(connection: Reader, schema: str, limit: int = 200) -> list[RunningRow]:
    """What workers hold, the longest first."""
    return await read(
        connection, schema, RunningRow, "{}.running order by since limit %s", (limit,)
    )


async def waiting(connection: Reader, schema: str, limit: int = 200) -> list[WaitingRow]:
    """What waits for an event, the longest first."""
    return await read(
        connection, schema, WaitingRow, "{}.waiting order by since limit %s", (limit,)
    )


async def stuck(connection: Reader, schema: str, limit: int = 200) -> list[StuckRow]:
    """What has not moved for too long, the longest first."""
    return await read(
        connection, schema, StuckRow, "{}.stuck order by stuck_for desc limit %s", (limit,)
    )

"""The calls of the SQL functions that a worker makes. The state machine is in those functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

from psycopg import sql

from outbox.store.arrays import IntegerArray, JsonArray, RealArray, TextArray, UuidArray
from outbox.store.connect import Connection

Verdict = str


class Claimed(NamedTuple):
    """A claimed command, as the function ``claim`` returns it."""

    command: UUID
    fence: int
    seq: int
    type: str
    version: int
    key: str
    kind: str
    step: str
    ordinal: int
    attempt: int
    revision: int
    in_doubt: bool
    input: Any
    results: dict[str, Any] | None
    error: dict[str, Any] | None
    due_at: datetime
    root: UUID | None
    element: int | None
    awaits: str | None
    arrived: Any


class Answer(NamedTuple):
    """What became of one outcome, as ``advance`` and ``recall`` return it.

    ``verdict`` is ``applied``, ``replayed``, ``fenced`` or (``recall`` only) ``open``. Where
    ``fence`` is not None, the worker holds the command described by the fields from ``kind`` on.
    """

    command: UUID
    verdict: str
    status: str | None
    fence: int | None
    seq: int
    kind: str
    step: str
    ordinal: int
    attempt: int
    revision: int
    in_doubt: bool
    element: int | None


class Lost(NamedTuple):
    """A command that ``reap`` took from a dead worker, or from one that held it too long."""

    command: UUID
    type: str
    step: str
    attempt: int
    holder: UUID
    suspended: bool


class Alert(NamedTuple):
    """A new alert, as ``raise_alerts`` returns it."""

    saga_id: UUID
    kind: str
    type: str
    step: str
    attempt: int
    message: str


class TypeAlert(NamedTuple):
    """A new alert of a whole type, as ``raise_type_alerts`` returns it."""

    kind: str
    type: str
    message: str


class TraceOrigin(NamedTuple):
    """Where a saga's trace comes from, as ``trace_contexts`` returns it: its parent, if it is a
    sub-saga, the topmost of its parents (or itself), and the W3C trace context in which that one
    was started, if its caller had one."""

    saga_id: UUID
    parent: UUID | None
    root: UUID
    traceparent: str | None
    tracestate: str | None


class DueSchedule(NamedTuple):
    """A schedule of which a tick is due, as ``due_schedules`` returns it."""

    name: str
    cron: str
    zone: str
    catch_up: str
    last_tick: datetime
    now: datetime


@dataclass(slots=True)
class Report:
    """One outcome on its way to ``advance``: the columns of its arguments. ``goes_on``: an action
    is done, so that all that is to be told is its result. ``events``: what it emitted, as JSON."""

    command: UUID
    fence: int
    outcome: str
    result: str | bytes | None = None
    took: float | None = None
    error: str | None = None
    no_effect: bool = False
    give_up: bool = False
    counted: bool = True
    after: timedelta | None = None
    doubt_for: timedelta | None = None
    goes_on: bool = False
    events: bytes | None = None


def call(schema: str, template: LiteralString) -> sql.Composed:
    """A statement with the schema's name in place of each ``{}``."""
    name = sql.Identifier(schema)
    return sql.SQL(template).format(*[name] * template.count("{}"))


class Functions:
    """The worker's SQL functions in one schema; every method takes the connection to use.

    Errors of the database are raised as they are; ``outbox.errors.from_database`` maps them.
    """

    def __init__(self, schema: str) -> None:
        self.schema = schema
        self.wake_channel = f"{schema}_wake"
        self._register_worker = call(
            schema, "select {}.register_worker(%s, %s, %s, %s, %s::int[], %s)"
        )
        self._heartbeat = call(schema, "select * from {}.heartbeat(%s)")
        self._deregister = call(schema, "select {}.deregister_worker(%s)")
        self._doze = call(schema, "select {}.doze(%s, %s, %s::int[])")
        self._claim = call(
            schema, "select * from {}.claim(%s, %s, %s::int[], %s::int[], %s::timestamptz[])"
        )
        self._advance = call(
            schema,
            "select * from {}.advance(%s, %s, %s, %s, %s, %s, %s::text[]::jsonb[], "
            "%s::boolean[], %s::boolean[], %s::boolean[], %s::interval[], %s::interval[], %s)",
        )
        self._recall = call(schema, "select * from {}.recall(%s, %s, %s::int[])")
        self._lock_held = call(schema, "select * from {}.lock_held(%s, %s, %s, %s)")
        self._recalled = call(schema, "select r.result::text from {}.recalled(%s, %s, %s, %s) as r")
        self._remember = call(schema, "select {}.remember(%s, %s, %s, %s, %s::json)::text")
        self._release = call(schema, "select {}.release(%s, %s, %s::int[])")
        self._held = call(schema, "select * from {}.held(%s)")
        self._reap = call(schema, "select * from {}.reap()")
        self._raise_alerts = call(schema, "select * from {}.raise_alerts()")
        self._raise_type_alerts = call(schema, "select * from {}.raise_type_alerts()")
        self._purge = call(schema, "select * from {}.purge(%s, %s)")
        self._register = call(
            schema, "select {}.register(%s, %s, %s::jsonb, %s::jsonb, %s::interval)"
        )
        self._due_schedules = call(schema, "select * from {}.due_schedules()")
        self._start_ticks = call(
            schema,
            "select * from {}.start_ticks(%s, %s, %s, %s, %s::timestamptz[], %s, %s)",
        )
        self._trace_contexts = call(schema, "select * from {}.trace_contexts(%s)")
        self._declare_limits = call(schema, "select {}.declare_limits(%s, %s, %s::jsonb)")

    async def register(
        self,
        connection: Connection,
        type_: str,
        version: int,
        steps: str,
        input_schema: str,
        deadline: timedelta | None,
    ) -> str:
        """Registers a definition: ``registered``, ``updated`` or ``unchanged``."""
        cursor = await connection.execute(
            self._register, (type_, version, steps, input_schema, deadline)
        )
        return str((await _one(cursor))[0])

    async def declare_limits(
        self, connection: Connection, type_: str, version: int, limits: str
    ) -> None:
        """Registers the limits that a definition declares, but for those set from SQL."""
        await connection.execute(self._declare_limits, (type_, version, limits))

    async def register_worker(
        self,
        connection: Connection,
        worker: UUID,
        host: str,
        pid: int,
        types: Sequence[tuple[str, int]],
        lease: timedelta,
    ) -> None:
        """Makes a worker known under a fresh id."""
        names, versions = [t for t, _ in types], [v for _, v in types]
        await connection.execute(self._register_worker, (worker, host, pid, names, versions, lease))

    async def heartbeat(self, connection: Connection, worker: UUID) -> tuple[timedelta, int] | None:
        """Extends the lease: (hold, max_result_bytes), or None when the worker was reaped."""
        cursor = await connection.execute(self._heartbeat, (worker,))
        return await cursor.fetchone()

    async def deregister_worker(self, connection: Connection, worker: UUID) -> None:
        """Ends a registration, and gives back what the worker holds as not begun."""
        await connection.execute(self._deregister, (worker,))

    async def doze(
        self, connection: Connection, worker: UUID, types: Sequence[tuple[str, int]]
    ) -> timedelta | None:
        """Marks the worker idle: the time until its next command is due; None: not now, look
        soon."""
        cursor = await connection.execute(
            self._doze, (worker, [t for t, _ in types], [v for _, v in types])
        )
        found: timedelta | None = (await _one(cursor))[0]
        return found

    async def claim(
        self,
        connection: Connection,
        worker: UUID,
        wanted: Sequence[tuple[str, int, int]],
        floors: Sequence[datetime | None],
    ) -> list[Claimed]:
        """Claims due commands: up to a limit for each of (type, version, limit), and none that was
        due before the floor of its type."""
        types, versions, limits = zip(*wanted, strict=True)
        cursor = await connection.execute(
            self._claim,
            (worker, list(types), list(versions), list(limits), list(floors)),
            binary=True,
        )
        return [Claimed(*row) for row in await cursor.fetchall()]

    async def trace_contexts(
        self, connection: Connection, sagas: Sequence[UUID]
    ) -> dict[UUID, TraceOrigin]:
        """Where the traces of some sagas come from."""
        cursor = await connection.execute(self._trace_contexts, (UuidArray.of(sagas),))
        return {row[0]: TraceOrigin(*row) for row in await cursor.fetchall()}

    async def advance(
        self, connection: Connection, worker: UUID, reports: Sequence[Report]
    ) -> list[Answer]:
        """Commits outcomes, of each command at most one; the answers are in their order. What goes
        on and what does not are told apart, so that the one need not wade through the other."""
        rows = []
        on, others = [r for r in reports if r.goes_on], [r for r in reports if not r.goes_on]
        for part in (on, others):
            if not part:
                continue
            cursor = await connection.execute(
                self._advance,
                (
                    worker,
                    UuidArray.of([r.command for r in part]),
                    IntegerArray.of([r.fence for r in part]),
                    TextArray.of([r.outcome for r in part]),
                    JsonArray.of([r.result for r in part]),
                    RealArray.of([r.took for r in part]),
                    *_of_failures(part),
                    _of_events(part),
                ),
                binary=True,
            )
            rows += await cursor.fetchall()
        # By the numbers, since a UUID computes its hash in Python.
        answers = {row[0].int: Answer(*row) for row in rows}
        return [answers[report.command.int] for report in reports]

    async def recall(
        self, connection: Connection, worker: UUID, commands: Sequence[tuple[UUID, int]]
    ) -> list[Answer]:
        """What became of (command, fence) pairs whose commit's answer was lost."""
        cursor = await connection.execute(
            self._recall, (worker, [c for c, _ in commands], [f for _, f in commands])
        )
        return [Answer._make(row) for row in await cursor.fetchall()]

    async def lock_held(
        self,
        connection: Connection,
        worker: UUID,
        commands: Sequence[tuple[UUID, int]],
        patience: timedelta,
    ) -> set[UUID]:
        """Locks those of the commands that are still the worker's until the transaction's end."""
        cursor = await connection.execute(
            self._lock_held,
            (
                worker,
                UuidArray.of([c for c, _ in commands]),
                IntegerArray.of([f for _, f in commands]),
                patience,
            ),
            binary=True,
        )
        return {row[0] for row in await cursor.fetchall()}

    async def recalled(
        self, connection: Connection, worker: UUID, command: UUID, fence: int, name: str
    ) -> bytes | None:
        """What a command's earlier attempts remembered under a name, as JSON; None: nothing."""
        cursor = await connection.execute(self._recalled, (worker, command, fence, name))
        row = await cursor.fetchone()
        return None if row is None else row[0].encode()

    async def remember(
        self,
        connection: Connection,
        worker: UUID,
        command: UUID,
        fence: int,
        name: str,
        result: bytes,
    ) -> bytes:
        """Remembers a sub-effect's result, as JSON, unless there is one; what is remembered."""
        cursor = await connection.execute(
            self._remember, (worker, command, fence, name, result.decode())
        )
        found: str = (await _one(cursor))[0]
        return found.encode()

    async def release(
        self, connection: Connection, worker: UUID, commands: Sequence[tuple[UUID, int]]
    ) -> set[UUID]:
        """Gives back commands that were not begun; returns those that were still the worker's."""
        cursor = await connection.execute(
            self._release, (worker, [c for c, _ in commands], [f for _, f in commands])
        )
        return {row[0] for row in await cursor.fetchall()}

    async def held(self, connection: Connection, worker: UUID) -> dict[UUID, int]:
        """The commands that the worker holds, each with its fence."""
        cursor = await connection.execute(self._held, (worker,))
        return {row[0]: row[1] for row in await cursor.fetchall()}

    async def reap(self, connection: Connection) -> list[Lost]:
        """Takes commands from dead workers."""
        cursor = await connection.execute(self._reap)
        return [Lost._make(row) for row in await cursor.fetchall()]

    async def raise_alerts(self, connection: Connection) -> list[Alert]:
        """Raises an alert for each stuck or suspended saga that has none yet."""
        cursor = await connection.execute(self._raise_alerts)
        return [Alert._make(row) for row in await cursor.fetchall()]

    async def raise_type_alerts(self, connection: Connection) -> list[TypeAlert]:
        """Raises an alert for each type that lags, or completes too seldom, and has none yet."""
        cursor = await connection.execute(self._raise_type_alerts)
        return [TypeAlert._make(row) for row in await cursor.fetchall()]

    async def purge(
        self, connection: Connection, limit: int, after: UUID | None
    ) -> tuple[int, UUID | None]:
        """Removes one batch of old finished sagas: how many, and where the next batch begins."""
        cursor = await connection.execute(self._purge, (limit, after))
        row = await _one(cursor)
        return row[0], row[1]

    async def due_schedules(self, connection: Connection) -> list[DueSchedule]:
        """The schedules that are to be looked at."""
        cursor = await connection.execute(self._due_schedules)
        return [DueSchedule._make(row) for row in await cursor.fetchall()]

    async def start_ticks(
        self,
        connection: Connection,
        due: DueSchedule,
        ticks: Sequence[datetime],
        until: datetime,
        upcoming: datetime | None,
    ) -> tuple[int, str | None]:
        """Starts a schedule's sagas, one a tick, unless another worker was first: how many, or why
        not."""
        cursor = await connection.execute(
            self._start_ticks,
            (due.name, due.cron, due.zone, due.last_tick, list(ticks), until, upcoming),
        )
        row = await _one(cursor)
        return row[0], row[1]


def _of_failures(reports: Sequence[Report]) -> list[list[Any] | None]:
    """The arguments that say something of failed attempts only."""
    names = ("error", "no_effect", "give_up", "counted", "after", "doubt_for")
    if all(report.outcome == "done" for report in reports):
        return [None] * len(names)
    return [[getattr(report, name) for report in reports] for name in names]


def _of_events(reports: Sequence[Report]) -> JsonArray | None:
    """What was emitted; None when nobody has, which costs nothing."""
    if all(report.events is None for report in reports):
        return None
    return JsonArray.of([report.events for report in reports])


async def _one(cursor: Any) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = await cursor.fetchone()
    assert row is not None, "a function that returns one row returned none"
    return row

"""Calls of the SQL functions as any client could make them: no worker, no event loop."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from outbox import Saga
from outbox.definition.registry import describe_input, describe_steps
from outbox.store.functions import Answer, Claimed, Lost, Report
from tests.fixtures import Schema, move_clock

Rows = list[SimpleNamespace]
BOTH_WAYS = pytest.mark.parametrize("one_by_one", [False, True], ids=["together", "one by one"])
LEASE = timedelta(seconds=15)


class Engine:
    """One connection to a schema. Time passes when the test says so."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.connection = schema.connect()
        self.ahead = timedelta()
        self.audits_at_end = True
        self.one_by_one = False

    def rows(self, query: Any, *parameters: Any) -> Rows:
        """The rows of a query, each with its columns as attributes."""
        with self.connection.cursor(row_factory=dict_row) as cursor:
            return [SimpleNamespace(**row) for row in cursor.execute(query, parameters).fetchall()]

    def value(self, query: Any, *parameters: Any) -> Any:
        """The first column of the first row, or None."""
        row = self.connection.execute(query, parameters).fetchone()
        return row and row[0]

    def execute(self, statement: Any, *parameters: Any) -> None:
        self.connection.execute(statement, parameters)

    def register(self, *sagas: Saga[Any]) -> list[str]:
        found = [
            self.value(
                "select register(%s, %s, %s::jsonb, %s::jsonb, %s)",
                *(saga.type, saga.version, describe_steps(saga), describe_input(saga)),
                saga.deadline,
            )
            for saga in sagas
        ]
        if self.one_by_one:
            self.execute("update definition_step set plain = false")
        return found

    def start(self, type_: str = "order", key: str | None = None, **more: Any) -> UUID:
        """Starts a saga; `more` is its input, `version` and `due_at`."""
        version, due_at = more.pop("version", None), more.pop("due_at", None)
        found: UUID = self.value(
            "select start(%s, %s, %s, %s, %s)", type_, Jsonb(more), key, version, due_at
        )
        return found

    def worker(self, *types: str, lease: timedelta = LEASE, version: int = 1) -> Worker:
        """A newly registered worker of these types."""
        return Worker(self, types or ("order",), lease, version)

    def row(self, saga: UUID) -> SimpleNamespace:
        """The saga's row in outbox."""
        (row,) = self.rows("select * from outbox where id = %s", saga)
        return row

    def instance(self, saga: UUID) -> SimpleNamespace:
        (row,) = self.rows("select * from instance where id = %s", saga)
        return row

    def history(self, saga: UUID) -> Rows:
        """The saga's transitions in order, each with the state as the timeline shows it."""
        found = self.rows("select * from transition where saga_id = %s order by seq", saga)
        shown = self.rows("select seq, state from timeline where saga_id = %s", saga)
        states = {row.seq: row.state for row in shown}
        for row in found:
            row.state = states[row.seq]
        return found

    def last(self, saga: UUID) -> SimpleNamespace:
        return self.history(saga)[-1]

    def everything(self) -> list[Any]:
        """All that the functions may write, for comparisons."""
        tables = (
            *("instance", "outbox", "transition", "worker", "act", "alert"),
            *("pause", "rerun", "setting", "signal"),
        )
        return [
            self.connection.execute(f"select t::text from {table} as t order by 1").fetchall()  # noqa: S608
            for table in tables
        ]

    def now(self) -> datetime:
        found: datetime = self.value("select clock()")
        return found

    def is_waiting(self, connection: psycopg.Connection[Any]) -> bool:
        """Whether a connection's statement waits for a lock."""
        waiting = "select 1 from pg_stat_activity where pid = %s and wait_event_type = 'Lock'"
        return bool(self.value(waiting, connection.info.backend_pid))

    def pass_time(self, by: timedelta | float) -> None:
        """Moves the clock on; a number is seconds."""
        self.ahead += by if isinstance(by, timedelta) else timedelta(seconds=by)
        move_clock(self.connection, self.schema.name, self.ahead)

    def pass_time_until(self, moment: datetime) -> None:
        """Moves the clock to just after a moment."""
        self.pass_time(moment - self.now() + timedelta(milliseconds=1))

    def reap(self, limit: int = 500) -> list[Lost]:
        found = self.connection.execute("select * from reap(%s)", (limit,)).fetchall()
        return [Lost._make(row) for row in found]

    def retry(self, saga: UUID, note: str = "again", seq: int | None = None) -> str:
        return str(self.value("select retry(%s, %s, %s)", saga, note, seq))

    def abort(self, saga: UUID, note: str = "stop it", seq: int | None = None) -> str:
        return str(self.value("select abort(%s, %s, %s)", saga, note, seq))

    def act(self, name: str, saga: UUID, *arguments: Any, **named: Any) -> Any:
        """Calls an act on a saga by its function's name."""
        given = ["%s"] * len(arguments) + [f"{key} => %s" for key in named]
        return self.value(
            f"select {name}({', '.join(['%s', *given])})", saga, *arguments, *named.values()
        )

    def resolve(self, saga: UUID, status: str, note: str = "by hand") -> str:
        return str(self.value("select resolve(%s, %s, %s)", saga, status, note))

    def audit(self) -> list[tuple[Any, ...]]:
        return self.connection.execute("select * from audit()").fetchall()


class Worker:
    """A registration: what it claims it holds until it says what came of it."""

    def __init__(
        self, engine: Engine, types: Sequence[str], lease: timedelta, version: int
    ) -> None:
        self.engine = engine
        self.id = uuid.uuid4()
        self.types = list(types)
        self.versions = [version] * len(types)
        engine.execute(
            "select register_worker(%s, 'host', 1, %s, %s::int[], %s)",
            *(self.id, self.types, self.versions, lease),
        )

    def claim(
        self, limit: int = 10, connection: psycopg.Connection[Any] | None = None
    ) -> list[Claimed]:
        """Claims up to `limit` commands of each type, on another connection if one is given."""
        limits = [limit] * len(self.types)
        found = (connection or self.engine.connection).execute(
            "select * from claim(%s, %s, %s::int[], %s::int[])",
            (self.id, self.types, self.versions, limits),
        )
        return [Claimed._make(row) for row in found.fetchall()]

    def claim_one(self) -> Claimed:
        """Claims the one command that is due."""
        (claimed,) = self.claim(1)
        return claimed

    def advance(
        self,
        *reports: Report,
        connection: psycopg.Connection[Any] | None = None,
    ) -> list[Answer]:
        """Commits outcomes; the answers in the order of the reports."""
        columns = [
            [getattr(report, name) for report in reports]
            for name in (
                *("command", "fence", "outcome", "result", "took", "error", "no_effect"),
                *("give_up", "counted", "after", "doubt_for"),
            )
        ]
        found = (connection or self.engine.connection).execute(
            "select * from advance(%s, %s, %s::int[], %s::text[], %s::text[]::json[], %s::real[], "
            "%s::text[]::jsonb[], %s, %s, %s, %s::interval[], %s::interval[])",
            (self.id, *columns),
        )
        answers = {row[0]: Answer._make(row) for row in found.fetchall()}
        return [answers[report.command] for report in reports]

    def say(self, held: Claimed | Answer, outcome: str, **more: Any) -> Answer:
        """Commits one outcome of a command that this worker holds."""
        return self.advance(report(held, outcome, **more))[0]

    def do(self, held: Claimed | Answer, *, until: str) -> Claimed | Answer:
        """Does one step after the other until the command in hand is that of step `until`."""
        while held.step != until:
            held = self.say(held, "done")
            assert held.fence is not None, f"the saga ended before {until}"
        return held

    def recall(self, *commands: tuple[UUID, int]) -> list[Answer]:
        found = self.engine.connection.execute(
            "select * from recall(%s, %s, %s::int[])",
            (self.id, [c for c, _ in commands], [f for _, f in commands]),
        )
        return [Answer._make(row) for row in found.fetchall()]

    def release(self, *held: Claimed | Answer) -> set[UUID]:
        found = self.engine.connection.execute(
            "select release(%s, %s, %s::int[])",
            (self.id, [h.command for h in held], [h.fence for h in held]),
        )
        return {row[0] for row in found.fetchall()}

    def doze(self, connection: psycopg.Connection[Any] | None = None) -> timedelta | None:
        row = (
            (connection or self.engine.connection)
            .execute("select doze(%s, %s, %s::int[])", (self.id, self.types, self.versions))
            .fetchone()
        )
        assert row is not None
        found: timedelta | None = row[0]
        return found

    def heartbeat(self) -> bool:
        """Whether the worker is still registered."""
        return bool(self.engine.rows("select * from heartbeat(%s)", self.id))

    def held(self) -> set[UUID]:
        return {row.command for row in self.engine.rows("select * from held(%s)", self.id)}

    def deregister(self) -> None:
        self.engine.execute("select deregister_worker(%s)", self.id)


def report(held: Claimed | Answer, outcome: str, **more: Any) -> Report:
    """An outcome of a held command; a failure gets an error if none is given."""
    error = None if outcome == "done" else '{"type": "Boom", "message": "it broke"}'
    assert held.fence is not None
    return Report(held.command, held.fence, outcome, **{"error": error, **more})

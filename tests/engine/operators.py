"""People who do whatever comes to their mind, to sagas that others act upon as well."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg

REFUSALS = {
    "SG002",  # several steps could be skipped, or none waits for such a signal
    "SG003",  # a key whose saga was amended
    "SG004",  # there is no such limit
    "SG005",  # the act does not apply
    "SG006",  # the saga has moved on
}
_LOST = ("57P01", "57P02", "57P03")
_SUSPENDED_FIRST = """
    select o.id, o.seq, exists (
        select from outbox s where (s.id = o.id or s.root = o.id) and s.status = 'SUSPENDED')
    from outbox o where o.root is null order by random() limit 4
"""
_STEPS = """
    select step || coalesce('/' || element, '') from transition
    where saga_id = %s and outcome = 'done' and kind = 'action'
"""


def is_lost(error: psycopg.Error) -> bool:
    """Whether the connection is lost, and with it the answer."""
    return isinstance(error, psycopg.OperationalError) and (
        error.sqlstate is None or error.sqlstate in _LOST or error.sqlstate.startswith("08")
    )


@dataclass
class Acts:
    """What was done, by everybody: by its note how many rows of ``act`` it must have left, at
    least and at most."""

    expected: dict[str, tuple[int, float]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    numbers: itertools.count[int] = field(default_factory=itertools.count)


class Person:
    """Somebody with a connection of their own."""

    def __init__(
        self,
        connection: psycopg.AsyncConnection[Any],
        dice: random.Random,
        types: list[str],
        signals: list[str],
        acts: Acts,
    ) -> None:
        self._connection = connection
        self._dice = dice
        self._types = types
        self._signals = signals
        self._acts = acts
        self._suspended = (
            *((self._retry, 6), (self._skip, 6), (self._resolve, 1), (self._amend_input, 3)),
            *((self._amend_result, 2), (self._abort, 1), (self._cancel, 1), (self._signal, 1)),
        )
        self._any = (
            *((self._retry, 2), (self._skip, 4), (self._amend_input, 2), (self._amend_result, 2)),
            *((self._abort, 1), (self._cancel, 2), (self._signal, 4), (self._pause_saga, 2)),
            *((self._resume_saga, 2), (self._move, 4), (self._resolve, 1)),
        )
        self._everywhere = (
            *((self._pause, 1), (self._resume, 3), (self._rerun, 1), (self._set_limit, 4)),
            *((self._drop_limit, 2), (self._many, 4), (self._move_many, 1)),
        )

    async def act_once(self) -> None:
        """One act, of any kind, on anything."""
        if self._dice.random() < 0.25:
            await self._one_of(self._everywhere)()
            return
        found = await self._rows(_SUSPENDED_FIRST)
        if not found:
            return
        saga, seq, suspended = max(found, key=lambda row: row[2])
        seen = self._dice.choice([None, None, seq, seq - 1])
        await self._one_of(self._suspended if suspended else self._any)(saga, seen)

    def _one_of(
        self, weighted: tuple[tuple[Callable[..., Awaitable[None]], int], ...]
    ) -> Callable[..., Awaitable[None]]:
        acts, weights = zip(*weighted, strict=True)
        chosen: Callable[..., Awaitable[None]] = self._dice.choices(acts, weights)[0]
        return chosen

    async def _rows(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        cursor = await self._connection.execute(statement.encode(), parameters or None)
        return await cursor.fetchall() if cursor.description else []

    async def _try(
        self,
        name: str,
        statement: str,
        *parameters: Any,
        rows: tuple[int, float] = (1, 1),
        note: str | None = None,
    ) -> list[tuple[Any, ...]] | None:
        """Does an act; of its parameters the text ``note`` stands for a note of its own. None: it
        was refused."""
        note = note or self._note(name)
        given = [note if p == "note" else p for p in parameters]
        try:
            found = await self._rows(statement, *given)
        except psycopg.Error as error:
            if is_lost(error):
                self._acts.expected[note] = (0, float("inf"))
                raise
            self._acts.expected[note] = (0, 0)
            self._acts.counts[f"{name} {error.sqlstate}"] += 1
            if error.sqlstate not in REFUSALS:
                self._acts.problems.append(f"{note} {given}: {error.sqlstate} {error}")
            return None
        self._acts.expected[note] = rows
        self._acts.counts[name] += 1
        return found

    def _note(self, name: str) -> str:
        return f"{name} {next(self._acts.numbers)}"

    async def _retry(self, saga: UUID, seq: int | None) -> None:
        # One for each line that runs again.
        await self._try(
            "retry", "select retry(%s, %s, %s)", saga, "note", seq, rows=(1, float("inf"))
        )

    async def _skip(self, saga: UUID, seq: int | None) -> None:
        lines = await self._rows(
            "select line_name(o) from outbox o where (id = %s or root = %s)", saga, saga
        )
        step = self._dice.choice([None, *(name for (name,) in lines)])
        await self._try("skip", "select skip(%s, %s, null, %s, %s)", saga, "note", step, seq)

    async def _amend_input(self, saga: UUID, seq: int | None) -> None:
        given = json.dumps({"text": "amended", "customer": self._customer()})
        await self._try(
            "amend_input",
            "select amend(%s, %s, p_input => %s::text::jsonb, p_seq => %s)",
            *(saga, "note", given, seq),
        )

    async def _amend_result(self, saga: UUID, seq: int | None) -> None:
        done = await self._rows(_STEPS, saga)
        if done:
            await self._try(
                "amend_result",
                "select amend(%s, %s, p_step => %s, p_result => '\"amended\"', p_seq => %s)",
                *(saga, "note", self._dice.choice(done)[0], seq),
            )

    async def _abort(self, saga: UUID, seq: int | None) -> None:
        await self._try("abort", "select abort(%s, %s, %s)", saga, "note", seq)

    async def _cancel(self, saga: UUID, seq: int | None) -> None:
        force = self._dice.random() < 0.3
        await self._try("cancel", "select cancel(%s, %s, %s, %s)", saga, "note", force, seq)

    async def _resolve(self, saga: UUID, seq: int | None) -> None:
        status = self._dice.choice(["COMPLETED", "FAILED"])
        await self._try("resolve", "select resolve(%s, %s, %s, %s)", saga, status, "note", seq)

    async def _signal(self, saga: UUID, _seq: int | None) -> None:
        await self._try(
            "signal",
            "select signal(%s, %s, null, %s)",
            *(saga, self._dice.choice(self._signals), str(self._dice.randrange(3))),
            rows=(0, 0),
        )

    async def _pause_saga(self, saga: UUID, seq: int | None) -> None:
        await self._try("pause_saga", "select pause_saga(%s, %s, %s)", saga, "note", seq)

    async def _resume_saga(self, saga: UUID, seq: int | None) -> None:
        await self._try("resume_saga", "select resume_saga(%s, %s, %s)", saga, "note", seq)

    async def _move(self, saga: UUID, seq: int | None) -> None:
        version = self._dice.choice([1, 2])
        await self._try("move", "select move_saga(%s, %s, %s, %s)", saga, version, "note", seq)

    async def _pause(self) -> None:
        type_ = self._dice.choice([*self._types, None])
        await self._try("pause", "select pause(%s, %s)", "note", type_, rows=(0, 0))

    async def _resume(self) -> None:
        paused = await self._rows("select type from pause where resumed_at is null")
        type_ = self._dice.choice(paused)[0] if paused else None
        await self._try("resume", "select resume(%s, %s)", "note", type_, rows=(0, 0))

    async def _rerun(self) -> None:
        ended = await self._rows(
            "select id from instance where status is not null order by random() limit 1"
        )
        for (saga,) in ended:
            await self._try("rerun", "select rerun(%s, %s)", saga, "note", rows=(0, 0))

    async def _set_limit(self) -> None:
        type_, amount = self._dice.choice(self._types), self._dice.choice([0, 1, 2, 5])
        name, key, per = self._dice.choice(
            [("all", None, None), ("customer", "customer", None), ("rate", None, "0.2 seconds")]
        )
        counts = per is None and self._dice.random() < 0.3
        await self._try(
            "set_limit",
            "select set_limit(%s, %s, %s, %s, %s, %s)",
            *(type_, name, amount, key, per, counts),
            rows=(0, 0),
        )

    async def _drop_limit(self) -> None:
        limits = await self._rows("select type, name from saga_limit where amount is not null")
        if limits:
            await self._try(
                "drop_limit", "select drop_limit(%s, %s)", *self._dice.choice(limits), rows=(0, 0)
            )

    async def _many(self) -> None:
        act = self._dice.choice(["retry", "skip", "resolve", "cancel", "pause_saga", "resume_saga"])
        dry = self._dice.random() < (0.8 if act in ("cancel", "resolve") else 0.3)
        what = {"type": self._dice.choice(self._types), "limit": 20}
        if self._dice.random() < 0.3:
            what = {"older_than": "0 seconds", "limit": 20}
        note = self._note(f"act_many {act}")
        done = await self._try(
            *("act_many", "select problem from act_many(%s, %s, %s::text::jsonb, %s, %s)"),
            *(act, note, json.dumps(what), dry, json.dumps({"status": "FAILED"})),
            note=note,
        )
        self._expect(note, done, dry, by_line=act == "retry")

    async def _move_many(self) -> None:
        dry = self._dice.random() < 0.3
        origin = self._dice.choice([1, 2])
        note = self._note("move_many")
        done = await self._try(
            *("move_many", "select problem from move_many(%s, %s, %s, %s, %s)"),
            *(self._dice.choice(self._types), origin, 3 - origin, note, dry),
            note=note,
        )
        self._expect(note, done, dry, by_line=False)

    def _expect(
        self, note: str, done: list[tuple[Any, ...]] | None, dry: bool, *, by_line: bool
    ) -> None:
        """Notes how many rows an act on many must have left, and what went wrong with it."""
        if done is None:
            return
        count = 0 if dry else sum(problem is None for (problem,) in done)
        self._acts.expected[note] = (count, float("inf") if by_line and count else count)
        self._acts.counts[f"{note.rsplit(maxsplit=1)[0]}: sagas"] += count
        self._acts.problems += [
            f"{note}: {problem}"
            for (problem,) in done
            if problem and not any(word in problem for word in _ORDINARY)
        ]

    def _customer(self) -> str:
        return f"customer-{self._dice.randrange(4)}"


_ORDINARY = (
    *("has moved on", "has ended", "is running", "is paused", "is not paused", "cannot go on"),
    *("nothing of it has failed", "can be skipped", "has several", "which lives", "has not begun"),
    *("is being undone", "only a suspended", "is past its pivot", "no result", "waits for saga"),
)

"""Which operator acts apply to a saga as it stands, and why the others do not.

The database decides when an act is made (``sql/functions``); this says the same beforehand, so that
a page need not offer what would be refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

ActName = Literal[
    "retry", "skip", "amend", "cancel", "abort", "resolve", "pause", "resume", "rerun", "signal"
]


@dataclass(frozen=True, slots=True)
class Line:
    """What one line of a living saga is at. ``line`` is None on the main line; ``standing`` is
    suspended, running, joins, waiting, delayed or due."""

    line: UUID | None
    element: int | None
    step: str
    kind: str
    status: str
    standing: str
    attempts: int
    failures: int
    awaits: str | None
    what: str | None
    sub_saga: UUID | None
    since: datetime
    due_at: datetime | None
    worker: UUID | None
    host: str | None
    pid: int | None
    until: datetime | None
    reason: str | None
    error: dict[str, Any] | None
    in_doubt: bool

    @property
    def name(self) -> str:
        """Its step; of an element "step/place"."""
        return self.step if self.element is None else f"{self.step}/{self.element}"

    @property
    def held_for(self) -> timedelta | None:
        """How long at most it is still held by a worker, counted from its last transition."""
        return None if self.until is None else self.until - self.since


@dataclass(frozen=True, slots=True)
class Act:
    """An act: it applies, or ``why_not`` says why it does not. ``choices`` are what it wants
    besides a note: for skip the steps that can be skipped, for amend those whose result can be
    amended, for signal the signals' names."""

    name: ActName
    applies: bool
    why_not: str | None = None
    choices: tuple[str, ...] = ()


def acts_of(
    status: str,
    lines: Sequence[Line],
    *,
    paused: bool,
    past_pivot: str | None,
    done: Sequence[str],
    signals: Sequence[str],
) -> list[Act]:
    """All acts, each with whether it applies.

    Args:
        status: the saga's, as ``overview`` shows it.
        lines: what its lines are at, the main line first; none of a finished saga.
        paused: it is paused by itself, not with its type.
        past_pivot: its pivot, where that is done.
        done: the steps that are done and not undone, whose result can be amended.
        signals: the names that steps of its definition wait for.
    """
    if not lines:
        ended = f"it has ended: it is {status}"
        return [
            Act(name, name == "rerun", None if name == "rerun" else ended)
            for name in ActName.__args__  # type: ignore[attr-defined]
        ]
    main = lines[0]
    past = None if past_pivot is None else f'it is past its pivot, step "{past_pivot}"'
    running = [line for line in lines if line.worker is not None]
    suspended = [line for line in lines if line.standing == "suspended"]
    busy = f"it is running {_names(running)} now" if running else None
    undone = "it is being undone already" if main.kind == "compensation" else None
    skippable = suspended or [
        line
        for line in lines
        if line.worker is None
        and line.awaits != "lines"
        and (line.attempts > 0 or line.awaits is not None or line.kind == "reconcile")
    ]
    beside = [line for line in running if line.line is not None]
    return [
        _act("retry", _no_retry(main, lines, suspended)),
        _act(
            "skip",
            None if skippable else "nothing of it is suspended or waits",
            [line.name for line in skippable],
        ),
        _act("amend", busy and f"{busy}: pause it, or wait", done),
        _act("cancel", undone or past),
        _act("abort", undone),
        _act(
            "resolve",
            "only a suspended saga can be resolved" if not suspended
            else f"it is running {_names(beside)} now" if beside else None,
        ),
        _act("pause", "it is paused already" if paused else None),
        _act("resume", None if paused else "it is not paused"),
        _act("rerun", f"it has not ended: it is {status}"),
        _act("signal", None if signals else "no step of its type waits for a signal", signals),
    ]  # fmt: skip


def _no_retry(main: Line, lines: Sequence[Line], suspended: Sequence[Line]) -> str | None:
    if main.worker is not None:
        return f"it is running {_names([main])} now"
    if main.status == "CREATED":
        return "it has not begun: no worker has taken it"
    if suspended or any(line.worker is None and line.awaits is None for line in lines):
        return None
    return "nothing of it has failed"


def _act(name: ActName, why_not: str | None, choices: Sequence[str] = ()) -> Act:
    return Act(name, why_not is None, why_not, () if why_not else tuple(choices))


def _names(lines: Sequence[Line]) -> str:
    return ", ".join(f'"{line.name}"' for line in lines)

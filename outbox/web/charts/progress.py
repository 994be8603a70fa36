"""How far a saga has come with each of its steps, from its history and what its lines are at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from outbox.viewer.acts import Line
from outbox.viewer.saga import Moment

# Of several elements the first of these that one is in is what the step is in.
_ORDER = (
    "suspended",
    "failed",
    "undo-failed",
    "doubt",
    "running",
    "undoing",
    "retrying",
    "waiting",
    "due",
    "done",
    "undone",
    "skipped",
)

WORDS = {
    "suspended": "waits for a person",
    "failed": "failed",
    "undo-failed": "undo failed",
    "doubt": "in doubt",
    "running": "running",
    "undoing": "being undone",
    "retrying": "will be retried",
    "waiting": "waiting",
    "due": "due",
    "done": "done",
    "undone": "undone",
    "skipped": "skipped",
}

_ACTION = {
    "done": "done",
    "joined": "done",
    "chosen": "done",
    "branched": "waiting",
    "retry": "retrying",
    "rejected": "failed",
    "in_doubt": "doubt",
    "skipped": "skipped",
    "waiting": "waiting",
}
_UNDO = {
    "done": "undone",
    "joined": "undone",
    "skipped": "undone",
    "retry": "undoing",
    "rejected": "undo-failed",
    "in_doubt": "undo-failed",
    "waiting": "undoing",
}
_STANDING = {
    "suspended": "suspended",
    "running": "running",
    "waiting": "waiting",
    "joins": "waiting",
    "due": "due",
}


@dataclass(frozen=True, slots=True)
class Progress:
    """What a step is in, one of ``WORDS``; after how many retries, and how long the last attempt
    took. Of
    a step that runs for elements: how many are ``settled``, of those seen."""

    state: str
    retries: int
    took: timedelta | None
    elements: int
    settled: int

    @property
    def words(self) -> str:
        """The state, as people say it."""
        said = WORDS[self.state]
        if self.elements:
            said += f", {self.settled} of {self.elements}"
        elif self.retries and self.state != "suspended":
            said += f", {self.retries} {'retry' if self.retries == 1 else 'retries'}"
        return said


def progress_of(history: Sequence[Moment], lines: Sequence[Line]) -> dict[str, Progress]:
    """By name, the steps that a saga has come to."""
    states: dict[str, dict[int | None, str]] = {}
    retries: dict[str, int] = {}
    took: dict[str, timedelta] = {}
    for moment in history:
        if moment.step is None or moment.kind is None:
            continue
        if moment.kind == "act":
            # A step that a person took as done has its result in the act.
            if moment.what.startswith("skip by"):
                states.setdefault(moment.step, {})[moment.element] = "skipped"
            continue
        known = _UNDO if moment.kind == "compensation" else _ACTION
        states.setdefault(moment.step, {})[moment.element] = known.get(moment.outcome, "done")
        if moment.kind == "action":
            again = moment.outcome == "retry"
            retries[moment.step] = retries.get(moment.step, 0) + again
            if moment.took is not None:
                took[moment.step] = moment.took
    for line in lines:
        states.setdefault(line.step, {})[line.element] = _state_of(line)
    return {
        name: _together(found, retries.get(name, 0), took.get(name))
        for name, found in states.items()
    }


def _state_of(line: Line) -> str:
    if line.standing == "delayed":
        return "undoing" if line.kind == "compensation" else "retrying" if line.attempts else "due"
    state = _STANDING.get(line.standing, "due")
    return "undoing" if line.kind == "compensation" and state != "suspended" else state


def _together(found: dict[int | None, str], retries: int, took: timedelta | None) -> Progress:
    elements = {place: state for place, state in found.items() if place is not None}
    # The line that hands out elements stands beside them and says only that it waits.
    states = list(elements.values()) or list(found.values())
    settled = sum(state in ("done", "undone", "skipped") for state in elements.values())
    state = min(states, key=_ORDER.index)
    return Progress(state, retries, took, len(elements), settled)

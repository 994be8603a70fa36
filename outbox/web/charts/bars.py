"""What went on in a saga, as the bars of its chart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from outbox.viewer.acts import Line
from outbox.viewer.plan import PlanStep
from outbox.viewer.saga import Moment
from outbox.web.times import duration_text

_STYLE = {
    "done": "done",
    "joined": "done",
    "chosen": "done",
    "retry": "retry",
    "rejected": "failed",
    "in_doubt": "doubt",
    "skipped": "skipped",
}


@dataclass(frozen=True, slots=True)
class Bar:
    """Something that went on, from and to in seconds since the saga's start."""

    row: str
    start: float
    end: float
    style: str
    said: str
    is_idle: bool = False  # the axis may cut it


def bars_of(
    history: Sequence[Moment], lines: Sequence[Line], now: datetime, hide: Callable[[str], str]
) -> list[Bar]:
    """The bars of attempts and waits, in the order of the history.

    Args:
        history: the timeline, from the start on.
        lines: what the saga's lines are at.
        now: where the bars end of what still goes on.
        hide: takes secrets out of an error's message.
    """
    begun = history[0].at
    return _past(history, begun, hide) + _present(lines, now, begun)


def rows_of(bars: Sequence[Bar], plan: Sequence[PlanStep]) -> list[str]:
    """The rows: steps as they stand in the plan, each with its elements, then what is in none."""
    ran = dict.fromkeys(bar.row for bar in sorted(bars, key=lambda bar: bar.start))
    rows: list[str] = []
    for name in _names(plan):
        parted = [row.rpartition("/") for row in ran]
        elements = [int(last) for before, _, last in parted if before == name and last.isdecimal()]
        rows += [name, *(_name(name, element) for element in sorted(elements))]
    return list(dict.fromkeys([*rows, *ran]))


def _names(plan: Sequence[PlanStep]) -> list[str]:
    return [
        name
        for step in plan
        for name in (step.name, *(inner for branch in step.branches for inner in _names(branch)))
    ]


def _past(history: Sequence[Moment], begun: datetime, hide: Callable[[str], str]) -> list[Bar]:
    bars: list[Bar] = []
    waits: dict[tuple[str, str | None], float] = {}
    for moment in history:
        if moment.step is None or moment.kind in (None, "act"):
            continue
        row = _name(moment.step, moment.element)
        waiting = (row, moment.kind)
        end = since(moment.at, begun)
        if waiting in waits:
            start = waits.pop(waiting)
            bars.append(
                Bar(
                    row,
                    start,
                    end,
                    "wait",
                    f"{row}: waited {duration_text(end - start)}",
                    is_idle=True,
                )
            )
        if moment.outcome in ("waiting", "branched"):
            waits[waiting] = end
            continue
        start = end if moment.took is None else end - moment.took.total_seconds()
        said = moment.what
        if moment.took is not None:
            said += f", {duration_text(moment.took)}"
        if moment.error:
            said += f" — {hide(moment.error)}"
        style = _STYLE.get(moment.outcome, "done")
        if moment.kind == "compensation" and style == "done":
            style = "undone"
        bars.append(Bar(row, max(start, 0.0), end, style, said))
        if moment.outcome == "retry" and moment.next_due is not None:
            due = since(moment.next_due, begun)
            bars.append(
                Bar(
                    row,
                    end,
                    max(due, end),
                    "delay",
                    f"{row}: next attempt after {duration_text(max(due - end, 0.0))}",
                    is_idle=True,
                )
            )
    return bars


def _present(lines: Sequence[Line], now: datetime, begun: datetime) -> list[Bar]:
    bars = []
    end = since(now, begun)
    for line in lines:
        row = _name(line.step, line.element)
        start = min(since(line.since, begun), end)
        lasted = duration_text(end - start)
        if line.standing == "running":
            undo = "the undo of " if line.kind == "compensation" else ""
            bars.append(Bar(row, start, end, "running", f"{undo}{row}: running for {lasted}"))
        elif line.standing == "suspended":
            bars.append(
                Bar(
                    row,
                    start,
                    end,
                    "suspended",
                    f"{row}: waits for a person for {lasted}",
                    is_idle=True,
                )
            )
        elif line.standing in ("waiting", "joins"):
            bars.append(
                Bar(
                    row,
                    start,
                    end,
                    "wait",
                    f"{row}: waits for {line.what or line.standing} for {lasted}",
                    is_idle=True,
                )
            )
    return bars


def _name(step: str, element: int | None) -> str:
    return step if element is None else f"{step}/{element}"


def since(at: datetime, begun: datetime) -> float:
    """Seconds from one instant to another, at least 0."""
    return max((at - begun).total_seconds(), 0.0)

"""The attempts of a saga over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from markupsafe import Markup

from outbox.viewer.acts import Line
from outbox.viewer.saga import Moment
from outbox.web.charts.axis import Axis
from outbox.web.charts.svg import cut, picture, tag
from outbox.web.times import duration_text

_WIDTH, _LABELS, _RIGHT = 1080.0, 212.0, 24.0
_ROW, _BAR, _HEAD = 26.0, 14.0, 30.0
_MOST_ROWS = 120

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
class _Bar:
    """Something that went on, from and to in seconds since the saga's start."""

    row: str
    start: float
    end: float
    style: str
    said: str
    is_idle: bool = False  # the axis may cut it


def gantt(
    history: Sequence[Moment],
    lines: Sequence[Line],
    now: datetime,
    hide: Callable[[str], str] = str,
) -> Markup:
    """Draws the attempts of a saga, a row for each step, element and direction.

    Args:
        history: the timeline, from the start on.
        lines: what its lines are at.
        now: where the bars end of what still goes on.
        hide: takes secrets out of an error's message.
    """
    begun = history[0].at
    bars = _past(history, begun, hide) + _present(lines, now, begun)
    rows = list(dict.fromkeys(bar.row for bar in sorted(bars, key=lambda bar: bar.start)))
    left_out = len(rows) - _MOST_ROWS
    rows = rows[:_MOST_ROWS]
    acts = [m for m in history if m.kind == "act"]
    instants = [(at, at) for at in (_since(m.at, begun) for m in history)]
    if lines:
        instants.append((_since(now, begun), _since(now, begun)))
    axis = Axis(
        [(0.0, 0.0), *((bar.start, bar.end) for bar in bars if not bar.is_idle), *instants],
        _LABELS,
        _WIDTH - _RIGHT,
    )
    height = _HEAD + max(len(rows), 1) * _ROW + 10 + (16 if left_out > 0 else 0)
    parts = [*_grid(axis, height), *_labels(rows)]
    for bar in bars:
        if bar.row in rows:
            parts.append(_draw(bar, axis, _HEAD + rows.index(bar.row) * _ROW))
    for act in acts:
        at = axis.place(_since(act.at, begun))
        parts.append(
            tag(
                "g",
                tag("title", act.what),
                tag("path", d=f"M{at:.1f} {_HEAD - 4:.1f}V{height - 8:.1f}"),
                tag("circle", cx=at, cy=_HEAD - 6, r=4.5),
                class_="g-act",
            )
        )
    if left_out > 0:
        parts.append(
            tag(
                "text",
                f"and {left_out} more rows: see the timeline",
                x=12.0,
                y=height - 6,
                class_="g-tick",
            )
        )
    label = (
        f"{len(bars)} attempts and waits of {len(rows)} commands over time; "
        "the timeline below says the same"
    )
    return picture(_WIDTH, height, label, *parts, class_="gantt")


def _past(history: Sequence[Moment], begun: datetime, hide: Callable[[str], str]) -> list[_Bar]:
    bars: list[_Bar] = []
    waits: dict[str, float] = {}
    for moment in history:
        if moment.step is None or moment.kind in (None, "act"):
            continue
        row = _name(moment.step, moment.element, moment.kind)
        end = _since(moment.at, begun)
        if row in waits:
            start = waits.pop(row)
            bars.append(
                _Bar(
                    row,
                    start,
                    end,
                    "wait",
                    f"{row}: waited {duration_text(end - start)}",
                    is_idle=True,
                )
            )
        if moment.outcome in ("waiting", "branched"):
            waits[row] = end
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
        bars.append(_Bar(row, max(start, 0.0), end, style, said))
        if moment.outcome == "retry" and moment.next_due is not None:
            due = _since(moment.next_due, begun)
            bars.append(
                _Bar(
                    row,
                    end,
                    max(due, end),
                    "delay",
                    f"{row}: next attempt after {duration_text(max(due - end, 0.0))}",
                    is_idle=True,
                )
            )
    return bars


def _present(lines: Sequence[Line], now: datetime, begun: datetime) -> list[_Bar]:
    bars = []
    end = _since(now, begun)
    for line in lines:
        row = _name(line.step, line.element, line.kind)
        start = min(_since(line.since, begun), end)
        lasted = duration_text(end - start)
        if line.standing == "running":
            bars.append(_Bar(row, start, end, "running", f"{row}: running for {lasted}"))
        elif line.standing == "suspended":
            bars.append(
                _Bar(
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
                _Bar(
                    row,
                    start,
                    end,
                    "wait",
                    f"{row}: waits for {line.what or line.standing} for {lasted}",
                    is_idle=True,
                )
            )
    return bars


def _draw(bar: _Bar, axis: Axis, top: float) -> Markup:
    left, right = axis.place(bar.start), axis.place(bar.end)
    middle = top + _ROW / 2
    if bar.style == "delay":
        return tag(
            "path",
            tag("title", bar.said),
            d=f"M{left:.1f} {middle:.1f}H{max(right, left + 2):.1f}",
            class_="g-delay",
        )
    return tag(
        "rect",
        tag("title", bar.said),
        x=left,
        y=middle - _BAR / 2,
        width=max(right - left, 4.0),
        height=_BAR,
        rx=3.0,
        class_=f"g-bar {bar.style}",
    )


def _grid(axis: Axis, height: float) -> list[Markup]:
    parts = []
    for stretch in axis.stretches:
        if stretch.cut and stretch.right - stretch.left >= 3:
            said = f"nothing ran for {duration_text(stretch.end - stretch.start)}"
            parts.append(
                tag(
                    "rect",
                    tag("title", said),
                    x=stretch.left,
                    y=_HEAD - 6,
                    width=stretch.right - stretch.left,
                    height=height - _HEAD - 2,
                    class_="g-cut",
                )
            )
    for seconds, at in axis.ticks(92.0):
        parts.append(tag("path", d=f"M{at:.1f} {_HEAD - 6:.1f}V{height - 8:.1f}", class_="g-line"))
        near_end = at > _WIDTH - _RIGHT - 40
        parts.append(
            tag(
                "text",
                "+" + duration_text(seconds) if seconds else "start",
                x=at,
                y=16.0,
                text_anchor="end" if near_end else "start",
                class_="g-tick",
            )
        )
    return parts


def _labels(rows: Sequence[str]) -> list[Markup]:
    parts = []
    for place, row in enumerate(rows):
        top = _HEAD + place * _ROW
        if place % 2 == 0:
            parts.append(
                tag("rect", x=0.0, y=top, width=_WIDTH, height=_ROW, rx=5.0, class_="g-row")
            )
        parts.append(
            tag("text", tag("title", row), cut(row, 30), x=12.0, y=top + 17, class_="g-name")
        )
    return parts


def _name(step: str, element: int | None, kind: str) -> str:
    name = step if element is None else f"{step}/{element}"
    return {"compensation": f"↺ {name}", "reconcile": f"? {name}"}.get(kind, name)


def _since(at: datetime, begun: datetime) -> float:
    return max((at - begun).total_seconds(), 0.0)

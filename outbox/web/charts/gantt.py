"""The attempts of a saga over time."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from datetime import datetime

from markupsafe import Markup

from outbox.viewer.acts import Line
from outbox.viewer.plan import PlanStep
from outbox.viewer.saga import Moment
from outbox.web.charts.axis import Axis
from outbox.web.charts.bars import Bar, bars_of, rows_of, since
from outbox.web.charts.svg import cut, picture, tag
from outbox.web.times import duration_text

_WIDTH, _LABELS, _RIGHT = 1080.0, 212.0, 24.0
_ROW, _BAR, _HEAD, _FOOT = 26.0, 14.0, 30.0, 24.0
_MOST_ROWS = 120


def gantt(
    history: Sequence[Moment],
    lines: Sequence[Line],
    now: datetime,
    hide: Callable[[str], str] = str,
    plan: Sequence[PlanStep] = (),
) -> Markup:
    """Draws the attempts of a saga, a row for each step and element; an undo stands in the row of
    what it undoes.

    Args:
        history: the timeline, from the start on.
        lines: what its lines are at.
        now: where the bars end of what still goes on.
        hide: takes secrets out of an error's message and an act's note.
        plan: the steps of its definition, which have their rows before they are reached, so that
            the chart keeps its size.
    """
    begun = history[0].at
    bars = bars_of(history, lines, now, hide)
    rows = rows_of(bars, plan)
    left_out = len(rows) - _MOST_ROWS
    rows = rows[:_MOST_ROWS]
    acts = [m for m in history if m.kind == "act"]
    instants = [(at, at) for at in (since(m.at, begun) for m in history)]
    if lines:
        instants.append((since(now, begun), since(now, begun)))
    axis = Axis(
        [(0.0, 0.0), *((bar.start, bar.end) for bar in bars if not bar.is_idle), *instants],
        _LABELS,
        _WIDTH - _RIGHT,
    )
    height = _HEAD + max(len(rows), 1) * _ROW + _FOOT + (16 if left_out > 0 else 0)
    reached = {bar.row for bar in bars}
    parts = [*_grid(axis, height), *_labels(rows, reached)]
    for bar in bars:
        if bar.row in rows:
            parts.append(_draw(bar, axis, _HEAD + rows.index(bar.row) * _ROW))
    for act in acts:
        at = axis.place(since(act.at, begun))
        parts.append(
            tag(
                "g",
                tag("title", hide(act.what)),
                tag("path", d=f"M{at:.1f} {_HEAD - 4:.1f}V{height - _FOOT + 4:.1f}"),
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
        f"{len(bars)} attempts and waits of {len(reached)} steps over time; "
        "the timeline below says the same"
    )
    return picture(_WIDTH, height, label, *parts, class_="gantt")


def _draw(bar: Bar, axis: Axis, top: float) -> Markup:
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
                    height=height - _HEAD - _FOOT + 10,
                    class_="g-cut",
                )
            )
            if stretch.right - stretch.left >= 38:
                parts.append(
                    tag(
                        "text",
                        duration_text(stretch.end - stretch.start),
                        x=(stretch.left + stretch.right) / 2,
                        y=height - 6,
                        text_anchor="middle",
                        class_="g-tick",
                    )
                )
    for seconds, at in axis.ticks(92.0):
        parts.append(
            tag("path", d=f"M{at:.1f} {_HEAD - 6:.1f}V{height - _FOOT + 4:.1f}", class_="g-line")
        )
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


def _labels(rows: Sequence[str], reached: Container[str]) -> list[Markup]:
    parts = []
    for place, row in enumerate(rows):
        top = _HEAD + place * _ROW
        if place % 2 == 0:
            parts.append(
                tag("rect", x=0.0, y=top, width=_WIDTH, height=_ROW, rx=5.0, class_="g-row")
            )
        parts.append(
            tag(
                "text",
                tag("title", row),
                cut(row, 30),
                x=12.0,
                y=top + 17,
                class_="g-name" if row in reached else "g-name none",
            )
        )
    return parts

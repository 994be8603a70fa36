"""A definition as a diagram: its steps from left to right, those side by side one below the other,
coloured by how far a saga has come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from markupsafe import Markup

from outbox.viewer.plan import PlanStep
from outbox.web.charts.progress import WORDS, Progress
from outbox.web.charts.svg import cut, picture, tag

_WIDTH, _HEIGHT = 156.0, 56.0
_APART, _BELOW = 26.0, 14.0
_PAD, _HEAD = 16.0, 26.0
_MARGIN = 10.0
_END = 22.0  # the dots before the first step and behind the last
_SHRINKS = 1450.0  # up to this width a diagram can be read when it is made to fit a page
_OVER = {"failed", "undoing", "undone", "undo-failed"}
_LONG = 15  # characters of a name that fit in the usual size


@dataclass(frozen=True)
class _Box:
    """What is drawn for a step, and how large it is with all that stands within it."""

    step: PlanStep
    branches: list[_Row]

    @cached_property
    def width(self) -> float:
        if not self.branches:
            return _WIDTH
        inner = max(branch.width for branch in self.branches) + 2 * (_PAD + _APART / 2)
        return max(inner, _WIDTH + 40)

    @cached_property
    def height(self) -> float:
        if not self.branches:
            return _HEIGHT
        heights = sum(branch.height for branch in self.branches)
        return heights + _BELOW * (len(self.branches) - 1) + _HEAD + _PAD


@dataclass(frozen=True)
class _Row:
    """Steps one after the other."""

    boxes: list[_Box]

    @cached_property
    def width(self) -> float:
        return sum(box.width for box in self.boxes) + _APART * max(len(self.boxes) - 1, 0)

    @cached_property
    def height(self) -> float:
        return max((box.height for box in self.boxes), default=_HEIGHT)


def diagram(
    plan: Sequence[PlanStep],
    progress: Mapping[str, Progress] | None = None,
    ended: str | None = None,
) -> Markup:
    """Draws a plan.

    Args:
        plan: the steps, as ``outbox.viewer.plan`` has them.
        progress: of a saga, by step; None: the definition alone.
        ended: the saga's final status.
    """
    row = _row(plan)
    middle = _MARGIN + row.height / 2
    width = row.width + 2 * (_MARGIN + _END + _APART)
    parts: list[Markup] = []
    drawn = _Drawing(progress or {}, parts)
    start = _MARGIN + _END / 2
    parts.append(tag("circle", cx=start, cy=middle, r=6.0, class_="d-start"))
    left = _MARGIN + _END + _APART
    drawn.edge(start + 6, middle, left, middle, bool(progress))
    drawn.row(row, left, middle)
    stop = left + row.width + _APART + _END / 2
    drawn.edge(left + row.width, middle, stop - 9, middle, ended == "COMPLETED")
    parts.append(tag("circle", cx=stop, cy=middle, r=8.0, class_="d-end"))
    parts.append(
        tag("circle", cx=stop, cy=middle, r=4.5, class_=f"d-end-dot s-{(ended or 'none').lower()}")
    )
    fits = "diagram fits" if width <= _SHRINKS else "diagram"
    return picture(width, row.height + 2 * _MARGIN, _in_words(plan, progress), *parts, class_=fits)


class _Drawing:
    """Puts rows and boxes at their places."""

    def __init__(self, progress: Mapping[str, Progress], parts: list[Markup]) -> None:
        self._progress, self._parts = progress, parts

    def row(self, row: _Row, left: float, middle: float) -> None:
        for place, box in enumerate(row.boxes):
            if place:
                self.edge(left - _APART, middle, left, middle, self._reached(box))
            self._box(box, left, middle)
            left += box.width + _APART

    def edge(self, x1: float, y1: float, x2: float, y2: float, taken: bool) -> None:
        bend = x1 + (x2 - x1) / 2
        path = (
            f"M{x1:.1f} {y1:.1f}H{x2 - 5:.1f}"
            if y1 == y2
            else f"M{x1:.1f} {y1:.1f}C{bend:.1f} {y1:.1f} {bend:.1f} {y2:.1f} {x2 - 5:.1f} {y2:.1f}"
        )
        style = "d-edge taken" if taken else "d-edge"
        self._parts.append(tag("path", d=path, class_=style))
        tip = f"M{x2 - 7:.1f} {y2 - 4:.1f}L{x2:.1f} {y2:.1f}L{x2 - 7:.1f} {y2 + 4:.1f}Z"
        self._parts.append(tag("path", d=tip, class_=style.replace("d-edge", "d-tip")))

    def _reached(self, box: _Box) -> bool:
        return box.step.name in self._progress or any(
            self._reached(inner) for row in box.branches for inner in row.boxes
        )

    def _known(self, box: _Box) -> Progress | None:
        """How far a step is. A group that had a branch fail is never joined, and waits no more."""
        known = self._progress.get(box.step.name)
        if known is None or known.state != "waiting":
            return known
        inner = {
            self._progress[one.step.name].state
            for row in box.branches
            for one in row.boxes
            if one.step.name in self._progress
        }
        return replace(known, state="failed") if inner & _OVER else known

    def _box(self, box: _Box, left: float, middle: float) -> None:
        top = middle - box.height / 2
        known = self._known(box)
        style = f"d-box s-{known.state if known else 'none'}"
        words = [*_kinds(box.step), known.words if known else "not reached"]
        said = f"{box.step.name}: {', '.join(words)}"
        if box.branches:
            self._frame(box, left, top, middle, style, said)
            return
        rect = tag(
            "rect",
            x=left,
            y=top,
            width=box.width,
            height=box.height,
            rx=9.0,
            class_="d-shape" + (" each" if box.step.fans_out else ""),
        )
        size = "d-name long" if len(box.step.name) > _LONG else "d-name"
        name = tag("text", cut(box.step.name, 19), x=left + 14, y=top + 24, class_=size)
        below = known.words if known else ", ".join(_kinds(box.step)) or box.step.state.lower()
        more = tag("text", cut(below, 22), x=left + 14, y=top + 42, class_="d-more")
        marks = []
        if box.step.fans_out:
            marks.append(
                tag(
                    "rect",
                    x=left + 5,
                    y=top + 5,
                    width=box.width,
                    height=box.height,
                    rx=9.0,
                    class_="d-behind",
                )
            )
        bar = tag(
            "rect", x=left, y=top + 10, width=4.0, height=box.height - 20, rx=2.0, class_="d-bar"
        )
        if box.step.pivot:
            marks.append(self._pivot(left + box.width, top, box.height))
        self._parts.append(
            tag(
                "g",
                tag("title", said),
                *marks[:1] if box.step.fans_out else (),
                rect,
                bar,
                name,
                more,
                *(marks[1:] if box.step.fans_out else marks),
                class_=style,
            )
        )

    def _pivot(self, right: float, top: float, height: float) -> Markup:
        x, y = right + _APART / 2, top + height / 2
        diamond = (
            f"M{x:.1f} {y - 8:.1f}L{x + 8:.1f} {y:.1f}L{x:.1f} {y + 8:.1f}L{x - 8:.1f} {y:.1f}Z"
        )
        return tag(
            "path",
            tag("title", "the pivot: nothing before it is undone automatically any more"),
            d=diamond,
            class_="d-pivot",
        )

    def _frame(
        self, box: _Box, left: float, top: float, middle: float, style: str, said: str
    ) -> None:
        what = "choice" if box.step.does == "choice" else "side by side"
        self._parts.append(
            tag(
                "g",
                tag("title", said),
                tag(
                    "rect",
                    x=left,
                    y=top,
                    width=box.width,
                    height=box.height,
                    rx=12.0,
                    class_=f"d-frame {box.step.does}",
                ),
                tag(
                    "text",
                    cut(box.step.name, 24),
                    tag("tspan", f"  {what}", class_="d-more"),
                    x=left + 14,
                    y=top + 18,
                    class_="d-name",
                ),
                class_=style,
            )
        )
        below = top + _HEAD
        for branch in box.branches:
            center = below + branch.height / 2
            first = left + _PAD + _APART / 2 + (box.width - 2 * _PAD - _APART - branch.width) / 2
            taken = any(self._reached(inner) for inner in branch.boxes)
            self.edge(left, middle, first, center, taken)
            self.row(branch, first, center)
            self._leave(first + branch.width, center, left + box.width, middle, taken)
            below += branch.height + _BELOW

    def _leave(self, x1: float, y1: float, x2: float, y2: float, taken: bool) -> None:
        bend = x1 + (x2 - x1) / 2
        self._parts.append(
            tag(
                "path",
                d=f"M{x1:.1f} {y1:.1f}C{bend:.1f} {y1:.1f} {bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}",
                class_="d-edge taken" if taken else "d-edge",
            )
        )


def _row(plan: Sequence[PlanStep]) -> _Row:
    return _Row([_Box(step, [_row(branch) for branch in step.branches]) for step in plan])


def _kinds(step: PlanStep) -> list[str]:
    """What is special about a step."""
    said = {
        "sleep": "sleeps",
        "signal": f"waits for {step.signal}",
        "saga": "runs a saga",
        "parallel": "side by side",
        "choice": "choice",
    }.get(step.does)
    kinds = [said] if said else []
    kinds += ["for each"] if step.fans_out else []
    kinds += ["pivot"] if step.pivot else []
    kinds += ["transactional"] if step.transactional else []
    kinds += ["best effort"] if step.best_effort else []
    return kinds


def _in_words(plan: Sequence[PlanStep], progress: Mapping[str, Progress] | None) -> str:
    def said(step: PlanStep) -> str:
        known = (progress or {}).get(step.name)
        inner = "; ".join(", ".join(said(s) for s in branch) for branch in step.branches)
        more = f" ({WORDS[known.state]})" if known else ""
        return f"{step.name}{more}" + (f" [{inner}]" if inner else "")

    return "Steps: " + ", then ".join(said(step) for step in plan)

"""Rates and latencies over time, as bars and lines."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from markupsafe import Markup

from outbox.web.charts.svg import picture, tag

_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 14.0, 12.0, 26.0


@dataclass(frozen=True, slots=True)
class Window:
    """The time that a chart shows, in buckets."""

    start: datetime
    end: datetime
    bucket: timedelta

    @property
    def buckets(self) -> int:
        """How many."""
        return max(math.ceil((self.end - self.start) / self.bucket), 1)

    def place(self, at: datetime) -> float:
        """Where an instant is, from 0 to 1."""
        return (at - self.start) / (self.end - self.start)


@dataclass(frozen=True, slots=True)
class Frame:
    """A chart's size and scales; ``top`` is the value at its upper edge."""

    width: float
    height: float
    window: Window
    top: float

    def x(self, at: datetime) -> float:
        return _LEFT + self.window.place(at) * (self.width - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return self.height - _BOTTOM - value / self.top * (self.height - _TOP - _BOTTOM)

    @property
    def bar_width(self) -> float:
        return (self.width - _LEFT - _RIGHT) / self.window.buckets

    def grid(self, write: Callable[[float], str]) -> list[Markup]:
        """Lines at a few values, and a few instants below."""
        parts = []
        for part in (0.0, 0.5, 1.0):
            y = self.y(self.top * part)
            parts.append(
                tag("path", d=f"M{_LEFT:.1f} {y:.1f}H{self.width - _RIGHT:.1f}", class_="c-line")
            )
            parts.append(
                tag(
                    "text",
                    write(self.top * part),
                    x=_LEFT - 8,
                    y=y + 4,
                    text_anchor="end",
                    class_="c-tick",
                )
            )
        names = 4 if self.width > 500 else 2
        span = self.window.end - self.window.start
        form = "%H:%M" if span <= timedelta(hours=30) else "%d %b"
        for place in range(names + 1):
            at = self.window.start + span * place / names
            anchor = "start" if place == 0 else "end" if place == names else "middle"
            parts.append(
                tag(
                    "text",
                    at.strftime(form),
                    x=self.x(at),
                    y=self.height - 8,
                    text_anchor=anchor,
                    class_="c-tick",
                )
            )
        return parts


def stacked(
    window: Window,
    counts: Mapping[datetime, Mapping[str, int]],
    order: Sequence[str],
    label: str,
    size: tuple[float, float] = (560.0, 190.0),
) -> Markup:
    """A bar for each bucket, its parts one upon the other.

    Args:
        counts: by the bucket's start, how many of each part.
        order: the parts, the lowest first; each is drawn with the class ``c-<part>``.
    """
    most = max((sum(parts.values()) for parts in counts.values()), default=0)
    frame = Frame(*size, window, round_up(float(most)) if most else 1.0)
    drawn = frame.grid(_count)
    gap = 2.0 if frame.bar_width > 6 else 0.5
    for at, parts in counts.items():
        if not window.start - window.bucket < at < window.end:
            continue
        said = f"{at:%Y-%m-%d %H:%M}: " + ", ".join(
            f"{parts.get(name, 0)} {name}" for name in order
        )
        left = max(frame.x(at), _LEFT)
        right = min(frame.x(at + window.bucket), frame.width - _RIGHT)
        group, reached = [tag("title", said)], 0
        for name in order:
            if count := parts.get(name, 0):
                top, bottom = frame.y(reached + count), frame.y(reached)
                group.append(
                    tag(
                        "rect",
                        x=left + gap / 2,
                        y=top,
                        width=max(right - left - gap, 1.0),
                        height=max(bottom - top, 1.0),
                        class_=f"c-bar c-{name}",
                    )
                )
                reached += count
        drawn.append(tag("g", *group))
    return picture(*size, label, *drawn)


def lines(
    window: Window,
    values: Mapping[str, Sequence[tuple[datetime, float]]],
    label: str,
    write: Callable[[float], str],
    *,
    top: float | None = None,
    size: tuple[float, float] = (560.0, 190.0),
) -> Markup:
    """A line for each name, drawn with the class ``c-<name>``; a point stands in its bucket's
    middle, and a line is broken where buckets are missing.

    Args:
        values: by name, (the bucket's start, the value), the oldest first.
        write: a value as text.
        top: the value at the upper edge; None: so that all fits.
    """
    most = max((value for points in values.values() for _, value in points), default=0.0)
    frame = Frame(*size, window, top or (round_up(most) if most > 0 else 1.0))
    drawn = frame.grid(write)
    half = window.bucket / 2
    for name, points in values.items():
        path, before = "", None
        dots = []
        for at, value in points:
            x = min(max(frame.x(at + half), _LEFT), frame.width - _RIGHT)
            y = frame.y(min(value, frame.top))
            together = before is not None and at - before <= window.bucket * 1.5
            path += f"{'L' if together else 'M'}{x:.1f} {y:.1f}"
            before = at
            said = f"{at:%Y-%m-%d %H:%M}, {name}: {write(value)}"
            dots.append(
                tag("circle", tag("title", said), cx=x, cy=y, r=2.6, class_=f"c-dot c-{name}")
            )
        if path:
            drawn.append(tag("path", d=path, class_=f"c-path c-{name}"))
        drawn += dots
    return picture(*size, label, *drawn)


def round_up(value: float) -> float:
    """The next larger number that is easy to read: 1, 2, 4, 5 or 10 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 5, 10) if value <= step * power * (1 + 1e-9))


def _count(value: float) -> str:
    if value >= 10_000:
        return f"{value / 1000:.0f} k"
    return f"{value:.0f}" if value == int(value) else f"{value:.1f}"

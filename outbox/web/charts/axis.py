"""A time axis that skips long stretches in which nothing ran, so that attempts of milliseconds can
be seen in sagas of days."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

_IDLE = 0.12  # of the time in which something ran: a longer stretch is drawn as this long


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the axis: from ``start`` to ``end`` in seconds, drawn from ``left`` to ``right``.
    ``cut``: it is drawn shorter than it was."""

    start: float
    end: float
    left: float
    right: float
    cut: bool


class Axis:
    """Maps seconds to places.

    Args:
        busy: when something ran, as (start, end).
        left, right: the places of the first start and the last end.
    """

    def __init__(self, busy: Iterable[tuple[float, float]], left: float, right: float) -> None:
        merged = _merge(busy) or [(0.0, 1.0)]
        ran = sum(end - start for start, end in merged)
        bound = max(ran * _IDLE, 0.001)
        parts: list[tuple[float, float, float, bool]] = []
        for place, (start, end) in enumerate(merged):
            if place:
                before = merged[place - 1][1]
                idle = start - before
                parts.append((before, start, min(idle, bound), idle > bound))
            parts.append((start, end, max(end - start, ran / 400, 1e-6), False))
        total = sum(length for _, _, length, _ in parts)
        self.stretches: list[Stretch] = []
        at = left
        for start, end, length, is_cut in parts:
            wide = (right - left) * length / total
            self.stretches.append(Stretch(start, end, at, at + wide, is_cut))
            at += wide
        self._starts = [stretch.start for stretch in self.stretches]

    def place(self, seconds: float) -> float:
        """Where an instant is drawn."""
        found = self.stretches[max(bisect_right(self._starts, seconds) - 1, 0)]
        if found.end <= found.start:
            return found.left
        part = min(max((seconds - found.start) / (found.end - found.start), 0.0), 1.0)
        return found.left + part * (found.right - found.left)

    def ticks(self, apart: float) -> list[tuple[float, float]]:
        """Instants to name, with their places, at least so far apart."""
        found: list[tuple[float, float]] = []
        last = self.stretches[-1]
        for seconds in [s.start for s in self.stretches if not s.cut] + [last.end]:
            at = self.place(seconds)
            if not found or at - found[-1][1] >= apart:
                found.append((seconds, at))
        if len(self.stretches) == 1:
            wide = last.right - last.left
            for part in range(1, int(wide // max(apart * 1.6, 1))):
                seconds = last.start + (last.end - last.start) * part * apart * 1.6 / wide
                at = self.place(seconds)
                if all(abs(at - other) >= apart for _, other in found):
                    found.append((seconds, at))
        return sorted(found)


def _merge(busy: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    merged: list[tuple[float, float]] = []
    for start, end in sorted(busy):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged

"""Measures with their repeats, and the figures that speak for them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Series:
    """One measure: what it came to, each time that it was taken."""

    scenario: str
    name: str
    unit: str
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The median of the repeats."""
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """Largest less smallest, as a share of the median."""
        if self.median == 0:
            return 0.0
        return (max(self.values) - min(self.values)) / abs(self.median)

    def to_json(self) -> dict[str, Any]:
        """For the report's file."""
        return {
            "scenario": self.scenario,
            "name": self.name,
            "unit": self.unit,
            "repeats": self.values,
            "median": self.median,
            "spread": self.spread,
        }


class Measures:
    """All series of a run, in the order in which they were first taken."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, str], Series] = {}

    def __iter__(self) -> Any:
        return iter(self._series.values())

    def add(self, scenario: str, name: str, value: float, unit: str) -> None:
        """Adds one more repeat of a measure."""
        series = self._series.setdefault((scenario, name), Series(scenario, name, unit))
        series.values.append(value)

    def median(self, scenario: str, name: str) -> float:
        """The median of a measure.

        Raises:
            KeyError: it was not taken.
        """
        return self._series[scenario, name].median

    def best(self, scenario: str, names: Sequence[str]) -> str:
        """Of several rates, the one with the largest median."""
        return max(names, key=lambda name: self.median(scenario, name))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed (nearest rank).

    Args:
        values: at least one.
        share: between 0 and 1, such as 0.99.
    """
    ordered = sorted(values)
    rank = max(1, -(-round(share * len(ordered) * 1_000_000) // 1_000_000))
    return ordered[min(rank, len(ordered)) - 1]

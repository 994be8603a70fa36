"""The bars that a run has to reach, and whether it does."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Check:
    """One bar. ``value`` is None when there was nothing to measure; then the bar does not hold.

    Attributes:
        scaled: the sizes were scaled down, so that the full run may come to another end.
        note: what the value was made from.
    """

    name: str
    value: float | None
    bar: float
    sense: Literal["at least", "at most"]
    unit: str
    scaled: bool
    note: str

    @property
    def holds(self) -> bool:
        """Whether the value reaches the bar."""
        if self.value is None:
            return False
        return self.value >= self.bar if self.sense == "at least" else self.value <= self.bar

    def to_json(self) -> dict[str, Any]:
        """For the report's file."""
        return {**asdict(self), "holds": self.holds}


class Checks(list[Check]):
    """The checks of a run."""

    def at_least(
        self,
        name: str,
        value: float | None,
        bar: float,
        *,
        unit: str = "×",
        scaled: bool = False,
        note: str = "",
    ) -> None:
        """Adds a check that more is better for."""
        self.append(Check(name, value, bar, "at least", unit, scaled, note))

    def at_most(
        self,
        name: str,
        value: float | None,
        bar: float,
        *,
        unit: str = "×",
        scaled: bool = False,
        note: str = "",
    ) -> None:
        """Adds a check that less is better for."""
        self.append(Check(name, value, bar, "at most", unit, scaled, note))

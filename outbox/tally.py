"""What a worker counts of itself, for whoever asks: plain numbers, which cost an attempt next to
nothing. ``metrics`` gives them to Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

Attempted = tuple[str, str, str]
"""Type, step, and kind of the command."""


class Histogram:
    """How many values fell below each bound, and their sum.

    Args:
        bounds: the upper bounds, inclusive and rising; one without a bound is kept beside them.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Counts one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Tally:
    """Counters since this worker began.

    Attributes:
        transitions: by type, step, kind of command and outcome.
        attempts: how long those that ran a handler took, in seconds, by type, step and kind.
        ended: sagas that this worker brought to their end, by type and final status.
        events: what else was told to the telemetry, by its name.
        claims: how many commands the claims found that found any.
        commits: how many outcomes a commit had.
        readings: what is asked when somebody looks: name to the present value.
    """

    def __init__(self) -> None:
        self.transitions: Counter[tuple[str, str, str, str]] = Counter()
        self.attempts: dict[Attempted, Histogram] = {}
        self.ended: Counter[tuple[str, str]] = Counter()
        self.events: Counter[str] = Counter()
        self.claims = Histogram(SIZES)
        self.commits = Histogram(SIZES)
        self.readings: dict[str, Callable[[], float]] = {}

    def transition(
        self, type_: str, step: str, kind: str, outcome: str, took: float | None
    ) -> None:
        """Counts one transition; ``took``: seconds, None where no handler ran."""
        self.transitions[type_, step, kind, outcome] += 1
        if took is None:
            return
        key = (type_, step, kind)
        found = self.attempts.get(key)
        if found is None:
            found = self.attempts[key] = Histogram(SECONDS)
        found.add(took)

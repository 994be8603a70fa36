"""Which units of a conversation with Postgres a proxy shall cut, and how often."""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass

from tests.postgres.wire import Unit


@dataclass
class Fault:
    """Strikes at a unit that matches, `times` times (None: without end), with `probability`."""

    name: str
    matches: Callable[[Unit], bool]
    times: int | None
    probability: float


class Faults:
    """The armed faults of one moment; a test arms them in its thread, a proxy asks in another."""

    def __init__(self, seed: int) -> None:
        self._lock = threading.Lock()
        self._dice = random.Random(seed)
        self._armed: list[Fault] = []

    def arm(self, fault: Fault) -> None:
        with self._lock:
            self._armed.append(fault)

    def disarm(self) -> None:
        with self._lock:
            self._armed.clear()

    def may_strike(self, unit: Unit) -> bool:
        """Whether some fault matches; the dice are not thrown."""
        with self._lock:
            return any(fault.times != 0 and fault.matches(unit) for fault in self._armed)

    def strike(self, unit: Unit) -> str | None:
        """The name of the fault that strikes at this unit, which uses up one of its times."""
        with self._lock:
            for fault in self._armed:
                if fault.times == 0 or not fault.matches(unit):
                    continue
                if self._dice.random() < fault.probability:
                    fault.times = None if fault.times is None else fault.times - 1
                    return fault.name
        return None

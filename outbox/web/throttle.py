"""A bound on how often something may be tried."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable

_KEYS = 10_000


class Throttle:
    """So many tries of each key within a sliding window of time, in this process. The keys that
    were tried longest ago are forgotten beyond ten thousand.

    Args:
        tries: how many.
        window: of so many seconds.
        clock: seconds, of which only differences count.
    """

    def __init__(
        self, tries: int, window: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tries, self._window, self._clock = tries, window, clock
        self._made: OrderedDict[Hashable, deque[float]] = OrderedDict()

    def take(self, key: Hashable) -> float:
        """Counts a try. Returns 0, or how many seconds it has to wait, and then counts none."""
        now = self._clock()
        made = self._made.setdefault(key, deque())
        self._made.move_to_end(key)
        while made and made[0] <= now - self._window:
            made.popleft()
        if len(made) >= self._tries:
            return made[0] + self._window - now
        made.append(now)
        while len(self._made) > _KEYS:
            self._made.popitem(last=False)
        return 0.0

    def give_back(self, key: Hashable) -> None:
        """Takes the last try of a key as never made."""
        if made := self._made.get(key):
            made.pop()

    def forget(self, key: Hashable) -> None:
        """Takes the tries of a key as never made."""
        self._made.pop(key, None)

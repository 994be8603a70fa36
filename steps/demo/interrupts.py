"""Being told to stop: a note that is read at chosen points, so that no process is lost track of.

An exception out of a signal handler could strike between a process's start and the line that
remembers it; that process would stay behind.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """Somebody asked the demo to stop."""


class Interrupts:
    """While entered, SIGINT, SIGTERM and SIGHUP are noted down instead of ending this process."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Go on, or not.

        Raises:
            Interrupted: there was a signal.
        """
        if self.signal is not None:
            raise Interrupted

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number

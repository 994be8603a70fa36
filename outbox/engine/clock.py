"""The process's own clock, for what no database can tell it: how long ago something was."""

from __future__ import annotations

import time

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def clock() -> float:
    """Seconds on a clock that no one sets and that goes on while the machine sleeps."""
    return time.clock_gettime(_CLOCK)

"""Processes that outlive their demo, because it was killed: found and ended by the next one.

Workers would find the next demo's Postgres where their own was, and take its payments to a provider
that it knows nothing of.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

FILE = "processes"
"""In the demo's directory, a line a process: its id, and when it started."""
END_SECONDS = 10.0
START_FIELD = 22
"""Of /proc/PID/stat, see proc_pid_stat(5)."""


def remember(directory: Path, pid: int) -> None:
    """Note a process down, in case that this one cannot end it.

    Args:
        directory: the demo's.
        pid: of a running process.
    """
    started = _started(pid)
    if started is not None:
        with (directory / FILE).open("a") as file:
            file.write(f"{pid} {started}\n")


def end(directory: Path) -> None:
    """Kill what was noted down and still runs; a process that got a dead one's id is left alone.

    Args:
        directory: the demo's.
    """
    file = directory / FILE
    if not file.exists():
        return
    noted = [line.split() for line in file.read_text().splitlines()]
    running = [(int(pid), started) for pid, started in noted if _started(int(pid)) == started]
    for pid, _ in running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + END_SECONDS
    while any(_started(pid) == started for pid, started in running) and time.monotonic() < deadline:
        time.sleep(0.02)


def _started(pid: int) -> str | None:
    """When a process started, in ticks since the machine did; ``None`` when it does not run, or
    where the system does not tell."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is a name in parentheses that may itself hold some.
    state, *others = text.rpartition(")")[2].split()
    return None if state == "Z" else others[START_FIELD - 4]

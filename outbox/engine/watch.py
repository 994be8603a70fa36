"""Watching handlers: each has its time, and one that outlives it is cancelled or left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

from outbox.definition.outcomes import InDoubt, Outcome
from outbox.engine.clock import clock

Why = Literal["timeout", "shutdown", "dropped"]
"""Why a handler was stopped; None when it ended by itself."""

Ended = Callable[["Watched", Outcome | None, Any], None]
"""Called with why a handler's call has no result, or with None and the result. It does not hold on
to the watched one, which would be a cycle for the garbage collector at every attempt."""

# How long a cancelled coroutine may take to end before it is left behind.
_CANCEL_SECONDS = 1.0
_NEVER = float("inf")


class Watched:
    """A running handler.

    Args:
        began: when, by ``clock()``.
        timeout: seconds that it has.
        ended: called once, when it has ended or is left behind.
    """

    __slots__ = (
        "began", "deadline", "ended", "future", "has_begun", "is_left_behind", "timeout", "why",
    )  # fmt: skip

    def __init__(self, began: float, timeout: float, ended: Ended) -> None:
        self.began = began
        self.timeout = timeout
        self.deadline = began + timeout
        self.ended = ended
        self.why: Why | None = None
        self.future: asyncio.Future[Any] | None = None
        self.has_begun = False
        self.is_left_behind = False

    def interrupted(self) -> InDoubt:
        """The outcome of an attempt whose handler was stopped, or cancelled by its own doing."""
        if self.why is None:
            return InDoubt(
                {"type": "Cancelled", "message": "the handler was cancelled from within"}
            )
        if self.why == "timeout":
            return InDoubt({"type": "Timeout", "message": f"no answer within {self.timeout:g} s"})
        message = "the worker shut down during the attempt"
        return InDoubt({"type": "WorkerShutdown", "message": message}, counted=False)


class Watch:
    """The handlers that run in this worker. One timer serves them all: most end long before their
    time, and a timer for each would cost more than what is watched."""

    def __init__(self) -> None:
        self._running: set[Watched] = set()
        self._left_behind: set[Watched] = set()
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = _NEVER

    @property
    def left_behind(self) -> int:
        """How many handlers outlived their time and still run."""
        return len(self._left_behind)

    def add(self, watched: Watched) -> None:
        """Watches a handler from now on."""
        self._running.add(watched)
        if watched.deadline < self._alarm_at:
            self._set_alarm(watched.deadline, watched.began)

    def end(self, watched: Watched) -> bool:
        """Watches it no more, since it has ended; False when it was left behind before that."""
        if watched in self._running:
            self._running.remove(watched)
            return True
        self._left_behind.discard(watched)
        return False

    def stop(self, watched: Watched, why: Why) -> None:
        """Ends a handler: cancels a coroutine, which is left behind if it refuses; leaves a thread
        behind, which cannot be cancelled."""
        if watched not in self._running or watched.why is not None:
            return
        watched.why = why
        task = watched.future
        if isinstance(task, asyncio.Task):
            task.cancel()
            if watched.has_begun:
                task.get_loop().call_later(_CANCEL_SECONDS, self._leave, watched)
            else:  # its task never will, and tells nobody
                self._running.remove(watched)
                watched.ended(watched, watched.interrupted(), None)
        else:
            self._leave(watched)

    def stop_all(self, why: Why) -> None:
        """Ends all handlers."""
        for watched in list(self._running):
            self.stop(watched, why)

    def close(self) -> None:
        """Rings no more."""
        if self._alarm is not None:
            self._alarm.cancel()

    def _leave(self, watched: Watched) -> None:
        if watched in self._running:
            self._running.remove(watched)
            self._left_behind.add(watched)
            watched.is_left_behind = True
            watched.ended(watched, watched.interrupted(), None)

    def _set_alarm(self, deadline: float, now: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = deadline
        loop = asyncio.get_running_loop()
        self._alarm = loop.call_later(max(0.0, deadline - now), self._ring)

    def _ring(self) -> None:
        now = clock()
        self._alarm, self._alarm_at = None, _NEVER
        next_deadline = _NEVER
        for watched in list(self._running):
            if watched.deadline <= now:
                self.stop(watched, "timeout")
            elif watched.deadline < next_deadline:
                next_deadline = watched.deadline
        if next_deadline < _NEVER:
            self._set_alarm(next_deadline, now)

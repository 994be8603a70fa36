"""Watching handlers: each has its time, and one that outlives it is cancelled or left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

from outbox.engine.clock import clock
from outbox.telemetry import Telemetry

Why = Literal["timeout", "shutdown", "dropped"]
"""Why a handler was stopped; None when it ended by itself."""
Ended = Callable[["Watched"], None]

# How long a cancelled coroutine may take to end before it is left behind.
_CANCEL_SECONDS = 1.0

_NEVER = float("inf")


class Watched:
    """A running handler. Once ``ended`` was called with it, ``future`` is done, or left behind."""

    __slots__ = ("began", "cancellable", "deadline", "ended", "future", "why")

    def __init__(
        self,
        future: asyncio.Future[Any],
        began: float,
        timeout: float,
        ended: Ended,
        is_async: bool,
    ) -> None:
        self.future = future
        self.began = began
        self.deadline = began + timeout
        self.ended = ended
        self.cancellable = is_async
        self.why: Why | None = None


class Watch:
    """The handlers that run in this worker. One timer serves them all: most end long before their
    time, and a timer for each would cost more than what is watched."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._running: dict[asyncio.Future[Any], Watched] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = _NEVER
        self.left_behind: set[asyncio.Future[Any]] = set()

    def add(
        self,
        future: asyncio.Future[Any],
        *,
        began: float,
        timeout: float,
        ended: Ended,
        is_async: bool,
    ) -> Watched:
        """Watches a handler that began at ``began`` and has ``timeout`` seconds. ``ended`` is
        called once: when it is done, or when it is left behind, since a thread cannot be cancelled
        and a coroutine may refuse to be."""
        watched = self._running[future] = Watched(future, began, timeout, ended, is_async)
        future.add_done_callback(self._done)
        if watched.deadline < self._alarm_at:
            self._set_alarm(watched.deadline, began)
        return watched

    def stop(self, watched: Watched, why: Why) -> None:
        """Ends a handler: cancels it, or leaves it behind."""
        if watched.future not in self._running or watched.why is not None:
            return
        watched.why = why
        if watched.cancellable:
            watched.future.cancel()
            watched.future.get_loop().call_later(_CANCEL_SECONDS, self._leave, watched)
        else:
            self._leave(watched)

    def stop_all(self, why: Why) -> None:
        """Ends all handlers."""
        for watched in list(self._running.values()):
            self.stop(watched, why)

    def close(self) -> None:
        """Rings no more."""
        if self._alarm is not None:
            self._alarm.cancel()

    def _done(self, future: asyncio.Future[Any]) -> None:
        watched = self._running.pop(future, None)
        if watched is None:
            self.left_behind.discard(future)
        else:
            self._end(watched)

    def _leave(self, watched: Watched) -> None:
        if self._running.pop(watched.future, None) is not None:
            self.left_behind.add(watched.future)
            self._end(watched)

    def _end(self, watched: Watched) -> None:
        try:
            watched.ended(watched)
        except Exception as error:  # noqa: BLE001 - in a callback of the loop nobody else would see it
            self._telemetry.emit("internal_error", "error", error=repr(error), exc_info=error)

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
        for watched in list(self._running.values()):
            if watched.deadline <= now:
                self.stop(watched, "timeout")
            elif watched.deadline < next_deadline:
                next_deadline = watched.deadline
        if next_deadline < _NEVER:
            self._set_alarm(next_deadline, now)

"""The threads of handlers that are plain functions. A thread cannot be cancelled: one that outlives
its attempt keeps its place until it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class DrainingError(Exception):
    """The worker ends: what still waits for a thread is given back."""


class Threads:
    """At most ``count`` handlers at once. Who has none yet waits here: in the pool's own queue a
    handler would run even after its attempt has ended."""

    def __init__(self, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="step")
        self._free = asyncio.Semaphore(count)
        self._draining = False
        self._stuck = 0
        self._exhausted_at = max(1, count // 2)
        self.exhausted = asyncio.Event()

    async def reserve(self) -> None:
        """Waits for a thread; ``run`` uses it, or ``give_back`` frees it.

        Raises:
            DrainingError: the worker ends.
        """
        await self._free.acquire()
        if self._draining:
            self._free.release()
            raise DrainingError

    def give_back(self) -> None:
        """Frees a reserved thread that was not used."""
        self._free.release()

    def run(self, function: Callable[[Any], Any], argument: object) -> asyncio.Future[Any]:
        """Runs a function in a reserved thread."""
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._pool, function, argument)
        running.add_done_callback(lambda _: self._free.release())
        return running

    def leave_behind(self, running: asyncio.Future[Any]) -> None:
        """Notes that a function outlived its attempt; ``exhausted`` is set once half of them
        have."""
        self._stuck += 1
        running.add_done_callback(self._came_back)
        if self._stuck >= self._exhausted_at:
            self.exhausted.set()

    def drain(self) -> None:
        """Lets what runs go on, and turns away what waits."""
        self._draining = True
        self._free.release()  # wakes the first one, who wakes the next

    def close(self) -> None:
        """Takes no more; what runs on is left behind."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _came_back(self, _: asyncio.Future[Any]) -> None:
        self._stuck -= 1

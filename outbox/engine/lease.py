"""A worker's right to the commands it holds: its registration, its heartbeat, and the reaping of
those whose heartbeat stopped."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid4

from outbox.engine.clock import clock
from outbox.engine.link import InterruptedStatementError, Link
from outbox.store.connect import Connection
from outbox.store.functions import Functions
from outbox.telemetry import Telemetry

# Of the lease: when a silent worker counts as dead, how often it beats, how old a heartbeat may be
# for an effect to begin. The dead are looked for after each heartbeat: dead and found together stay
# below 1.
_EXPIRES, _BEATS, _BEGINS = 0.8, 0.18, 0.6
_STANDSTILL = 1.0  # seconds by which a heartbeat is late, for which no busy worker is to blame


class Lease:
    """Keeps this process registered as a worker.

    Args:
        link: the heartbeat's own connection.
        lease: seconds within which a dead worker's commands are released.
        types: what this worker can run.
    """

    def __init__(
        self,
        link: Link,
        functions: Functions,
        telemetry: Telemetry,
        *,
        lease: float,
        types: Sequence[tuple[str, int]],
    ) -> None:
        self._link = link
        self._functions = functions
        self._telemetry = telemetry
        self._lease = lease
        self._types = types
        self._last_good = 0.0
        self._beaten = asyncio.Event()
        self._answered = asyncio.Event()
        self._beating = asyncio.Lock()
        self._steady_since = 0.0
        self.worker = uuid4()
        self.hold = 30.0
        self.max_result_bytes = 262144

    @property
    def is_fresh(self) -> bool:
        """Whether the last good heartbeat is young enough for an effect to begin. By this process's
        own clock, so that a pause of the process shows as soon as it ends."""
        return clock() - self._last_good < self._lease * _BEGINS

    async def fresh(self) -> None:
        """Waits until the lease is fresh."""
        while not self.is_fresh:
            self._beaten.clear()
            await self._beaten.wait()

    async def register(self) -> None:
        """Becomes a worker under a fresh id, and makes the first heartbeat."""
        self.worker = worker = uuid4()
        began = clock()
        expires = timedelta(seconds=self._lease * _EXPIRES)

        async def work(connection: Connection) -> tuple[timedelta, int] | None:
            await self._functions.register_worker(
                connection, worker, socket.gethostname(), os.getpid(), self._types, expires
            )
            return await self._functions.heartbeat(connection, worker)

        found = None
        while found is None:
            try:
                found = await self._link.once(work)
            except InterruptedStatementError:
                found = None
            if found is None:  # lost, or reaped already: whatever was registered runs out
                self.worker = worker = uuid4()
                began = clock()
        self._note_good(began, *found)
        self._telemetry.emit("worker_registered", worker=str(worker), pid=os.getpid())

    async def beat(self) -> bool:
        """One heartbeat; False when this worker was reaped and has registered anew."""
        async with self._beating:  # who learns of a loss elsewhere is not to register beside it
            return await self._beat()

    async def _beat(self) -> bool:
        began = clock()
        worker = self.worker

        async def work(connection: Connection) -> tuple[timedelta, int] | None:
            return await self._functions.heartbeat(connection, worker)

        try:
            found = await self._link.once(work, within=self._lease * _BEATS * 2)
        except TimeoutError:
            self._telemetry.emit(
                "heartbeat_unanswered",
                "warning",
                worker=str(worker),
                seconds=round(clock() - began, 2),
                message="the database did not answer a heartbeat in time; the next one is made on "
                "another connection, and nothing new begins until one is answered",
            )
            return True
        except InterruptedStatementError:
            return True
        if found is None:
            self._last_good = 0.0
            self._telemetry.emit(
                "worker_lost",
                "warning",
                worker=str(worker),
                message="this worker was taken for dead: what it holds is somebody else's now",
            )
            await self.register()
            return False
        self._note_good(began, *found)
        return True

    async def keep(self) -> None:
        """Beats until cancelled."""
        while True:
            due = clock() + self._lease * _BEATS
            await asyncio.sleep(self._lease * _BEATS)
            if (late := clock() - due) > _STANDSTILL:
                self._telemetry.emit(
                    "loop_blocked",
                    "warning",
                    seconds=round(late, 2),
                    message="nothing went on in this worker: a handler that is a coroutine blocks "
                    "instead of awaiting (make it a plain function, which runs in a thread), or "
                    "the process was stopped; after a lease it is taken for dead",
                )
            await self.beat()

    async def sweep(self, link: Link) -> None:
        """Reaps until cancelled. Each time right after a heartbeat that was answered at once, and
        only after one whole lease of such: when the database was away or stood still, the others
        need that long to be heard again."""
        while True:
            await self._answered.wait()
            self._answered.clear()
            if clock() - self._steady_since < self._lease * _EXPIRES:
                continue
            try:
                lost = await link.once(self._functions.reap)
            except InterruptedStatementError:
                continue
            for row in lost:
                self._telemetry.emit(
                    "command_reaped",
                    "warning",
                    saga_id=str(row.command),
                    type=row.type,
                    step=row.step,
                    attempt=row.attempt,
                    outcome="in_doubt",
                    holder=str(row.holder),
                    suspended=row.suspended,
                )

    async def leave(self) -> None:
        """Ends the registration; what is still held is released. When the database is away for a
        lease, the others release it."""
        worker: UUID = self.worker
        try:
            async with asyncio.timeout(self._lease):
                await self._link.run(lambda c: self._functions.deregister_worker(c, worker))
        except TimeoutError:
            self._telemetry.emit(
                "worker_left_unheard",
                "warning",
                worker=str(worker),
                message="the database is away: what this worker held is released by its lease",
            )
        else:
            self._telemetry.emit("worker_left", worker=str(worker))

    def _note_good(self, began: float, hold: timedelta, max_result_bytes: int) -> None:
        now = clock()
        if now - began > self._lease * _BEATS or began - self._last_good > self._lease * _BEGINS:
            self._steady_since = now
        self._last_good = began
        self.hold = hold.total_seconds()
        self.max_result_bytes = max_result_bytes
        self._beaten.set()
        self._answered.set()

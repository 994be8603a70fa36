"""Claiming: as many due commands as there is room for, and sleeping when there are none."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime

from outbox.engine.clock import clock
from outbox.engine.hand import Hand, HeldCommand, from_claim
from outbox.engine.lease import Lease
from outbox.engine.link import InterruptedStatementError, Link
from outbox.engine.wake import Wake
from outbox.errors import WorkerLostError, translated
from outbox.store.connect import Connection
from outbox.store.functions import Claimed, Functions
from outbox.telemetry import Telemetry

# After a claim that found something, the next one comes this soon, or once there is much room.
_BUSY_WAIT = 0.005
# How soon to look again while a start is under way somewhere, whose commit would go unheard.
_START_UNDER_WAY = 0.025


class Claimer:
    """Fills the hand.

    Args:
        begin: called with each claimed command; it runs it and lets go of it in the end.
        poll: seconds after which to look though nobody woke this worker.
        traced: whether to ask of each claimed saga where its trace comes from.
    """

    def __init__(
        self,
        link: Link,
        functions: Functions,
        lease: Lease,
        hand: Hand,
        wake: Wake,
        telemetry: Telemetry,
        *,
        begin: Callable[[HeldCommand], None],
        poll: float,
        traced: bool = False,
    ) -> None:
        self._link = link
        self._functions = functions
        self._lease = lease
        self._hand = hand
        self._wake = wake
        self._telemetry = telemetry
        self._begin = begin
        self._poll = poll
        self._traced = traced
        self._claiming = asyncio.Lock()
        # By (type, version): the latest due_at that was claimed of it.
        self._floors: dict[tuple[str, int], datetime] = {}
        self._floors_until = 0.0

    async def run(self) -> None:
        """Claims until cancelled."""
        while True:
            self._hand.changed.clear()
            wanted = self._hand.wanted()
            if not wanted:
                await self._hand.changed.wait()
                continue
            await self._lease.fresh()
            self._wake.event.clear()
            claimed = await self._claim(wanted)
            if claimed is None:
                await self.check_held()
            elif not claimed:
                await self._sleep()
            elif len(claimed) < sum(limit for _, _, limit in wanted):
                await asyncio.sleep(_BUSY_WAIT)
            else:
                await self._wait_for_room(_BUSY_WAIT)

    async def watch_held(self, every: float) -> None:
        """Checks every so many seconds, until cancelled."""
        while True:
            await asyncio.sleep(every)
            await self.check_held()

    async def check_held(self) -> None:
        """Releases what the database says this worker holds and this worker knows nothing of: the
        claim that took it was committed, but its answer was lost."""
        async with self._claiming:
            worker = self._lease.worker
            known = self._hand.commands()
            held = await self._link.run(lambda c: self._functions.held(c, worker))
            stray = [
                (command, fence)
                for command, fence in held.items()
                if command not in known | self._hand.commands()
            ]
            if not stray:
                return
            freed = await self._link.run(lambda c: self._functions.release(c, worker, stray))
            for command in freed:
                self._telemetry.emit(
                    "stray_command_released",
                    "warning",
                    saga_id=str(command),
                    message="it was claimed by a statement whose answer was lost",
                )

    async def _claim(self, wanted: list[tuple[str, int, int]]) -> list[Claimed] | None:
        """Claims and begins; None when it is open whether anything was claimed."""
        worker = self._lease.worker
        began = clock()
        if began >= self._floors_until:
            self._floors.clear()
            self._floors_until = began + self._poll
        floors = [self._floors.get((type_, version)) for type_, version, _ in wanted]

        async def work(connection: Connection) -> list[Claimed]:
            with translated():
                return await self._functions.claim(connection, worker, wanted, floors)

        async with self._claiming:
            try:
                claimed = await self._link.once(work)
            except InterruptedStatementError:
                return None
            except WorkerLostError:
                await self._lease.beat()
                return []
            if claimed and self._telemetry.tally is not None:
                self._telemetry.tally.claims.add(len(claimed))
            begin_before = began + self._lease.hold
            held = []
            for row in claimed:
                self._floors[row.type, row.version] = row.due_at  # they come in its order
                held.append(from_claim(row, self._hand.sagas[row.type, row.version], begin_before))
            if self._traced and held:
                await self._find_traces(held)
            for command in held:
                self._begin(command)
        return claimed

    async def _find_traces(self, held: list[HeldCommand]) -> None:
        sagas = list({command.shared.saga_id for command in held})
        found = await self._link.run(lambda c: self._functions.trace_contexts(c, sagas))
        for command in held:
            command.shared.trace = found[command.shared.saga_id]

    async def _sleep(self) -> None:
        """Sleeps until something is due, or somebody wakes this worker; looks every poll."""
        self._floors.clear()
        types = self._hand.types
        while not self._wake.event.is_set():
            worker = self._lease.worker
            due = await self._link.run(lambda c: self._functions.doze(c, worker, types))  # noqa: B023
            if due is None:
                await self._wake.wait(_START_UNDER_WAY)
                return
            if (seconds := due.total_seconds()) <= 0:
                return
            await self._wake.wait(min(seconds, self._poll))

    async def _wait_for_room(self, seconds: float) -> None:
        """Waits until a claim is worth its commit, but no longer than that."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._hand.has_much_room:
                    self._hand.changed.clear()
                    await self._hand.changed.wait()

"""Following each saga through its steps, as long as its commands stay in this worker's hand."""

from __future__ import annotations

import asyncio
import contextlib
from uuid import UUID

from outbox.definition.outcomes import Done
from outbox.engine.advance import Advancer
from outbox.engine.execute import Executor, LateError
from outbox.engine.hand import Hand, HeldCommand, Slot
from outbox.engine.lease import Lease
from outbox.engine.link import Link
from outbox.engine.transaction import Transactions
from outbox.engine.wake import Wake
from outbox.store.functions import Functions
from outbox.telemetry import Telemetry


class Follower:
    """Takes claimed commands into the hand, and runs each saga in a task of its own.

    Args:
        link: for giving commands back.
    """

    def __init__(
        self,
        link: Link,
        functions: Functions,
        lease: Lease,
        hand: Hand,
        executor: Executor,
        transactions: Transactions,
        advancer: Advancer,
        wake: Wake,
        telemetry: Telemetry,
    ) -> None:
        self._link = link
        self._functions = functions
        self._lease = lease
        self._hand = hand
        self._executor = executor
        self._transactions = transactions
        self._advancer = advancer
        self._wake = wake
        self._telemetry = telemetry
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False

    def begin(self, held: HeldCommand) -> None:
        """Takes a claimed command into the hand and begins it."""
        task = asyncio.create_task(self._follow(held, self._hand.take(held)))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def finish(self, grace: float, patience: float) -> None:
        """Begins no further command, and lets what runs end within ``grace`` seconds; then cancels
        it, and takes up to ``patience`` seconds to commit that."""
        self._draining = True
        self._executor.threads.drain()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=grace)
        self._executor.shutting_down = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self.cancel()

    async def cancel(self) -> None:
        """Cancels what runs, and waits for its end."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._telemetry.emit("internal_error", "error", error=repr(error), exc_info=error)

    async def _follow(self, first: HeldCommand, slot: Slot) -> None:
        """Runs a saga's commands one after the other."""
        held: HeldCommand | None = first
        try:
            while held is not None:
                held = await self._step(held)
        finally:
            self._hand.drop(slot)

    async def _step(self, held: HeldCommand) -> HeldCommand | None:
        """One command; the saga's next, if this worker keeps it."""
        if self._draining:
            # Not left to the advance: a release wakes another worker.
            await self._release(held.command, held.fence)
            return None
        try:
            if held.runnable.transactional:
                answer, attempt = await self._transactions.run(held)
            else:
                attempt = await self._executor.execute(held)
                answer = await self._advancer.advance(attempt)
        except LateError:
            await self._release(held.command, held.fence)
            return None
        if answer is None:
            return None
        if answer.fence is None:
            if answer.status in ("EXECUTING", "COMPENSATING"):
                # It is due later, perhaps sooner than the claimer meant to sleep.
                self._wake.event.set()
            return None
        if attempt is None:
            # Committed, but its answer was lost, and with it the result: the claim reads it anew.
            await self._release(held.command, answer.fence)
            return None
        if held.kind == "action" and isinstance(attempt.outcome, Done):
            held.shared.results[held.step.name] = attempt.value
        # The advance came after the attempt's end, so its deadline is later than this.
        begin_before = attempt.ended + self._lease.hold.total_seconds()
        return held.followed_by(answer, begin_before, attempt.error)

    async def _release(self, command: UUID, fence: int) -> None:
        worker = self._lease.worker
        await self._link.run(lambda c: self._functions.release(c, worker, [(command, fence)]))

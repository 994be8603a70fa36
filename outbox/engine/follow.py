"""Following each saga through its steps, as long as its commands stay in this worker's hand."""

from __future__ import annotations

import asyncio

from outbox.definition.outcomes import Done
from outbox.engine.advance import Advancer
from outbox.engine.attempt import Attempt
from outbox.engine.execute import Executor
from outbox.engine.hand import Hand, HeldCommand
from outbox.engine.lease import Lease
from outbox.engine.link import Link
from outbox.engine.transaction import Transactions
from outbox.engine.wake import Wake
from outbox.store.functions import Answer, Functions


class Follower:
    """Takes claimed commands into the hand, and each saga from one step to the next.

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
    ) -> None:
        self._link = link
        self._functions = functions
        self._lease = lease
        self._hand = hand
        self._executor = executor
        self._transactions = transactions
        self._advancer = advancer
        self._wake = wake
        self._releasing: set[asyncio.Task[None]] = set()
        self._draining = False

    def begin(self, held: HeldCommand) -> None:
        """Takes a claimed command into the hand and begins it."""
        self._hand.take(held)
        self._go(held)

    async def finish(self, grace: float, patience: float) -> None:
        """Begins no further command, and lets what runs end within ``grace`` seconds; then ends it,
        and takes up to ``patience`` seconds to commit that."""
        self._draining = True
        for held in self._hand.give_up_waiting():
            self._give_back(held, held.fence)
        self._executor.drain()
        await self._hand.emptied(grace)
        for held in self._transactions.abandon():
            self._hand.drop(held)  # given back with the registration, as not begun
        self._executor.shut_down()
        await self._hand.emptied(patience)

    async def cancel(self) -> None:
        """Stops giving back."""
        for task in self._releasing:
            task.cancel()
        if self._releasing:
            await asyncio.wait(set(self._releasing))

    def _go(self, held: HeldCommand) -> None:
        if self._draining:
            # Not left to the advance: a release wakes another worker.
            self._give_back(held, held.fence)
        elif held.runnable.decides and (attempt := self._executor.decide(held)) is not None:
            self._advancer.add(attempt, self._advanced)
        elif held.runnable.transactional:
            self._transactions.add(held, self._advanced)
        elif self._hand.begin(held):
            self._executor.start(held, self._attempted)

    def _attempted(self, held: HeldCommand, attempt: Attempt | None) -> None:
        if (following := self._hand.end()) is not None:
            self._executor.start(following, self._attempted)
        if attempt is None:
            self._give_back(held, held.fence)
        else:
            self._advancer.add(attempt, self._advanced)

    def _advanced(self, held: HeldCommand, answer: Answer | None, attempt: Attempt | None) -> None:
        """Goes on with the saga's next command, if this worker keeps it. Without an attempt, the
        command was not begun; or its commit's answer was lost, and with it the result, which
        whoever claims the saga next reads anew."""
        if answer is None and attempt is None:
            self._give_back(held, held.fence)
        elif answer is None:
            self._hand.drop(held)
        elif answer.fence is None:
            self._hand.drop(held)
            if answer.status in ("EXECUTING", "COMPENSATING"):
                # It is due later, perhaps sooner than the claimer meant to sleep.
                self._wake.event.set()
        elif attempt is None:
            self._give_back(held, answer.fence)
        else:
            outcome = attempt.outcome
            if held.kind != "compensation" and isinstance(outcome, Done):
                name = held.step.name if held.element is None else held.result_name
                held.shared.results[name] = outcome.result
            # The advance came after the attempt's end, so its deadline is later than this.
            begin_before = attempt.ended + self._lease.hold
            self._go(held.followed_by(answer, begin_before, attempt.error))

    def _give_back(self, held: HeldCommand, fence: int) -> None:
        task = asyncio.create_task(self._release(held, fence))
        self._releasing.add(task)
        task.add_done_callback(self._releasing.discard)

    async def _release(self, held: HeldCommand, fence: int) -> None:
        worker = self._lease.worker
        try:
            await self._link.run(
                lambda c: self._functions.release(c, worker, [(held.command, fence)])
            )
        finally:
            self._hand.drop(held)

"""Transactional steps: the handler's writes and its transition in one commit.

Those that wait while one transaction is under way share the next, so that they share a commit as
well: one after the other, those of a bulk step in one call. A failure rolls the whole group back;
those before the offender then commit on their own, the offender's outcome is committed as that of a
failed attempt, and the others go on together. Of a bulk call that fails as a whole, each half tries
by itself. So a handler may run more than once before its one commit.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from uuid import UUID

import psycopg

from outbox.definition.outcomes import describe
from outbox.engine.advance import Advancer, Then
from outbox.engine.attempt import Attempt
from outbox.engine.hand import Hand, HeldCommand
from outbox.engine.lease import Lease
from outbox.engine.link import InterruptedStatementError, Link
from outbox.engine.shared_transaction import (
    LARGEST_GROUP,
    BrokeInHandlerError,
    CallFailedError,
    End,
    Member,
    SharedTransaction,
)
from outbox.store.functions import Functions

_MOST_BREAKS = 5


class Transactions:
    """Runs transactional commands in shared transactions, over one connection for each lane."""

    def __init__(
        self,
        links: Sequence[Link],
        functions: Functions,
        lease: Lease,
        hand: Hand,
        advancer: Advancer,
        shared: SharedTransaction,
    ) -> None:
        self._links = links
        self._functions = functions
        self._lease = lease
        self._hand = hand
        self._advancer = advancer
        self._shared = shared
        self._queue: deque[Member] = deque()
        self._filled = asyncio.Event()
        self._turn = asyncio.Lock()
        self._under_way: set[Member] = set()
        self._breaks: Counter[UUID] = Counter()

    def add(self, held: HeldCommand, then: Then) -> None:
        """Queues a command for the next transaction."""
        self._queue.append(Member(held, then))
        self._hand.queue()
        self._filled.set()

    def abandon(self) -> list[HeldCommand]:
        """Forgets what has not come to its end, and returns it."""
        left = [member.held for member in (*self._queue, *self._under_way)]
        self._hand.unqueue(len(self._queue))
        self._queue.clear()
        return left

    async def serve(self) -> None:
        """Serves until cancelled."""
        async with asyncio.TaskGroup() as lanes:
            for link in self._links:
                lanes.create_task(self._lane(link))

    async def _lane(self, link: Link) -> None:
        while True:
            async with self._turn:
                group = await self._take()
            self._under_way.update(group)
            await self._settle(link, _arranged(group))
            self._under_way.difference_update(group)

    async def _take(self) -> list[Member]:
        """The next group: whatever has queued up, as long as each turn of the loop brings more; of
        each command one member. Of a saga that was taken from this worker and claimed anew two may
        have queued up, and in one group the old one would pass for the one that holds the command.
        """
        await self._filled.wait()
        seen = 0
        while seen < len(self._queue) < LARGEST_GROUP:
            seen = len(self._queue)
            await asyncio.sleep(0)
        group: dict[int, Member] = {}
        left = []
        for _ in range(min(len(self._queue), LARGEST_GROUP)):
            member = self._queue.popleft()
            if group.setdefault(member.held.command.int, member) is not member:
                left.append(member)
        self._queue.extendleft(reversed(left))
        self._hand.unqueue(len(group))
        if not self._queue:
            self._filled.clear()
        return list(group.values())

    async def _settle(self, link: Link, group: Sequence[Member]) -> None:
        """Brings every member to its end."""
        while group:
            try:
                ends = await link.once(lambda c: self._shared.commit(c, group))  # noqa: B023
                self._tell(ends)
                ended = {member for member, _, _ in ends}
                group = [member for member in group if member not in ended]
            except CallFailedError as failure:
                self._shared.guard()
                start = group.index(failure.members[0])
                await self._settle(link, group[:start])
                await self._settle_failed(link, failure.members, failure.attempts)
                called = set(failure.members)
                group = [member for member in group[start:] if member not in called]
            except InterruptedStatementError as interrupted:
                match interrupted.__cause__:
                    case BrokeInHandlerError(culprit=culprit) if self._breaks_again(culprit):
                        place = group.index(culprit)
                        await self._settle(link, group[:place])
                        self._fail(culprit, _broken(culprit.held))
                        group = group[place + 1 :]
                    case psycopg.errors.QueryCanceled() | psycopg.errors.LockNotAvailable():
                        # The database has a limit of time: fewer at once may keep it.
                        group = await self._recall(link, group)
                        half = len(group) // 2
                        await self._settle(link, group[:half])
                        group = group[half:]
                    case _:
                        group = await self._recall(link, group)
            except psycopg.Error as error:
                # At the commit, or in the advance: nobody says whose fault it is.
                if len(group) == 1:
                    self._fail(group[0], Attempt.failed(group[0].held, describe(error)))
                    return
                half = len(group) // 2
                await self._settle(link, group[:half])
                group = group[half:]

    async def _settle_failed(
        self, link: Link, members: Sequence[Member], attempts: Sequence[Attempt | None]
    ) -> None:
        """Settles the members of a call that failed: who is to blame fails, the others try again;
        when all are to blame, nobody knows who is, and each half tries by itself."""
        blamed = [a for a in attempts if a is not None and not a.is_clean]
        if len(blamed) == len(members) > 1:
            half = len(members) // 2
            await self._settle(link, members[:half])
            await self._settle(link, members[half:])
            return
        innocent = []
        for member, attempt in zip(members, attempts, strict=True):
            if attempt is None or attempt.is_clean:
                innocent.append(member)
            else:
                self._fail(member, attempt)
        await self._settle(link, innocent)

    def _fail(self, member: Member, attempt: Attempt) -> None:
        """Commits a failed attempt; it was rolled back, so it has had no effect."""
        self._forget(member)
        self._advancer.add(attempt.rolled_back(), member.then)

    async def _recall(self, link: Link, group: Sequence[Member]) -> list[Member]:
        """After a broken connection: asks what was committed; those that were not are left."""
        worker = self._lease.worker
        commands = [(member.held.command, member.held.fence) for member in group]
        answers = {
            answer.command: answer
            for answer in await link.run(lambda c: self._functions.recall(c, worker, commands))
        }
        still_open = []
        for member in group:
            answer = answers[member.held.command]
            if answer.verdict == "open":
                still_open.append(member)
            elif answer.verdict == "fenced":
                self._tell([self._shared.fenced(member)])
            else:
                self._advancer.emitted.set()  # perhaps: what it emitted was lost with the answer
                self._tell([(member, answer, None)])
        return still_open

    def _tell(self, ends: Sequence[End]) -> None:
        for member, answer, attempt in ends:
            self._forget(member)
            member.then(member.held, answer, attempt)

    def _breaks_again(self, culprit: Member) -> bool:
        """Whether a handler breaks its connection whenever it runs."""
        self._breaks[culprit.held.command] += 1
        return self._breaks[culprit.held.command] >= _MOST_BREAKS

    def _forget(self, member: Member) -> None:
        if self._breaks:
            self._breaks.pop(member.held.command, None)
        self._under_way.discard(member)


def _arranged(group: Sequence[Member]) -> list[Member]:
    """A group in which those of one bulk step stand side by side."""
    calls: dict[object, list[Member]] = {}
    for member in group:
        runnable = member.held.runnable
        calls.setdefault(runnable if runnable.bulk else member.held.command, []).append(member)
    return [member for call in calls.values() for member in call]


def _broken(held: HeldCommand) -> Attempt:
    message = f"the connection broke {_MOST_BREAKS} times while this handler used it"
    return Attempt.failed(held, {"type": "ConnectionBroken", "message": message})

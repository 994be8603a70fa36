"""Transactional steps: the handler's writes and its transition in one commit.

Those that wait while one transaction is under way share the next, so that they share a commit as
well: one after the other, those of a bulk step in one call. A failure rolls the whole group back;
those before the offender then commit on their own, the offender's outcome is committed as that of a
failed attempt, and the others go on together. From then on, and for some time, each call is guarded
by a savepoint, so that the next failures undo no more than their own: a savepoint costs a round
trip, which is not worth it as long as all goes well. Of a bulk call that fails as a whole, each
half tries by itself. So a handler may run more than once before its one commit.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import takewhile
from typing import Any
from uuid import UUID

import psycopg
from psycopg.pq import TransactionStatus

from outbox.definition.outcomes import Done, InDoubt, Outcome, Retried, describe
from outbox.engine.advance import Advancer, Then
from outbox.engine.attempt import Attempt
from outbox.engine.clock import clock
from outbox.engine.execute import Executor
from outbox.engine.hand import Hand, HeldCommand
from outbox.engine.lease import Lease
from outbox.engine.link import InterruptedStatementError, Link
from outbox.store.connect import Connection
from outbox.store.functions import Answer, Functions

_LARGEST_GROUP = 200
# Beyond 64 a transaction's savepoints burden everybody's snapshots.
_LARGEST_GUARDED_GROUP = 50
_GUARDED_GROUPS = 50
_LONGEST_TRANSACTION = 0.5
_PATIENCE_MARGIN = 5.0
_SAVEPOINT = "savepoint before_handler"
_BACK_TO_SAVEPOINT = "rollback to savepoint before_handler"
_MOST_BREAKS = 5


@dataclass(slots=True, eq=False)
class Member:
    """A command that waits for its transaction, and who is told of its end."""

    held: HeldCommand
    then: Then


End = tuple[Member, Answer | None, Attempt | None]


class _CallFailedError(Exception):
    """A call of a handler did not succeed; the group is rolled back.

    Args:
        start: the place of its first member in the group.
        attempts: what became of each of its members; None of those that were not run.
    """

    def __init__(self, start: int, attempts: Sequence[Attempt | None]) -> None:
        super().__init__()
        self.start = start
        self.attempts = attempts


class _BrokeInHandlerError(psycopg.OperationalError):
    """The connection broke while a handler used it: the server's fault, or what it made it do."""

    def __init__(self, culprit: Member) -> None:
        super().__init__("the connection broke in a handler's transaction")
        self.culprit = culprit


class Transactions:
    """Runs transactional commands in shared transactions, over one connection for each lane."""

    def __init__(
        self,
        links: Sequence[Link],
        functions: Functions,
        lease: Lease,
        hand: Hand,
        executor: Executor,
        advancer: Advancer,
    ) -> None:
        self._links = links
        self._functions = functions
        self._lease = lease
        self._hand = hand
        self._executor = executor
        self._advancer = advancer
        self._queue: deque[Member] = deque()
        self._filled = asyncio.Event()
        self._turn = asyncio.Lock()
        self._under_way: set[Member] = set()
        self._breaks: Counter[UUID] = Counter()
        # How many more groups are guarded.
        self._guard = 0

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
        """The next group: whatever has queued up, as long as each turn of the loop brings more."""
        await self._filled.wait()
        seen = 0
        while seen < len(self._queue) < _LARGEST_GROUP:
            seen = len(self._queue)
            await asyncio.sleep(0)
        group = [self._queue.popleft() for _ in range(min(len(self._queue), _LARGEST_GROUP))]
        self._hand.unqueue(len(group))
        if not self._queue:
            self._filled.clear()
        return group

    async def _settle(self, link: Link, group: Sequence[Member]) -> None:
        """Brings every member to its end."""
        while group:
            try:
                ends = await link.once(lambda c: self._commit(c, group))  # noqa: B023
                self._tell(ends)
                group = group[len(ends) :]
            except _CallFailedError as failure:
                self._guard = _GUARDED_GROUPS
                start, end = failure.start, failure.start + len(failure.attempts)
                await self._settle(link, group[:start])
                await self._settle_failed(link, group[start:end], failure.attempts)
                group = group[end:]
            except InterruptedStatementError as interrupted:
                match interrupted.__cause__:
                    case _BrokeInHandlerError(culprit=culprit) if self._breaks_again(culprit):
                        place = group.index(culprit)
                        await self._settle(link, group[:place])
                        self._fail(culprit, _broken(culprit.held))
                        group = group[place + 1 :]
                    case _:
                        group = await self._recall(link, group)
            except psycopg.Error as error:
                # At the commit, or in the advance: nobody says whose fault it is.
                if len(group) == 1:
                    self._fail(group[0], _undone(group[0].held, describe(error)))
                    return
                half = len(group) // 2
                await self._settle(link, group[:half])
                group = group[half:]

    async def _settle_failed(
        self, link: Link, members: Sequence[Member], attempts: Sequence[Attempt | None]
    ) -> None:
        """Settles the members of a call that failed: who is to blame fails, the others try again;
        when all are to blame, nobody knows who is, and each half tries by itself."""
        blamed = [attempt for attempt in attempts if not _is_clean(attempt)]
        if len(blamed) == len(members) > 1:
            half = len(members) // 2
            await self._settle(link, members[:half])
            await self._settle(link, members[half:])
            return
        innocent = []
        for member, attempt in zip(members, attempts, strict=True):
            if attempt is None or _is_clean(attempt):
                innocent.append(member)
            else:
                self._fail(member, attempt)
        await self._settle(link, innocent)

    async def _commit(self, connection: Connection, group: Sequence[Member]) -> list[End]:
        """Locks, calls the handlers and advances, in one transaction. Answers fewer than the group
        has when the handlers took long: row locks are not to be kept waiting for the last of
        them."""
        began = clock()
        patience = timedelta(
            seconds=max(member.held.runnable.timeout for member in group) + _PATIENCE_MARGIN
        )
        worker = self._lease.worker
        attempts: list[Attempt | None] = []
        if self._guard:
            self._guard -= 1
            group = group[:_LARGEST_GUARDED_GROUP]
        guarded = bool(self._guard)
        async with connection.transaction():
            mine = await self._functions.lock_held(
                connection, worker, [(m.held.command, m.held.fence) for m in group], patience
            )
            while len(attempts) < len(group) and clock() - began < _LONGEST_TRANSACTION:
                attempts += await self._call(connection, group, len(attempts), mine, guarded)
            reports = [attempt.to_report() for attempt in attempts if attempt is not None]
            answers = iter(await self._functions.advance(connection, worker, reports))
        ends: list[End] = []
        for member, attempt in zip(group, attempts, strict=False):
            if attempt is not None:
                answer = self._advancer.tell(attempt, next(answers))
                ends.append((member, answer, attempt))
            elif member.held.command in mine:
                ends.append((member, None, None))  # too late to begin
            else:
                ends.append(self._fenced(member))
        return ends

    async def _call(
        self,
        connection: Connection,
        group: Sequence[Member],
        start: int,
        mine: set[UUID],
        guarded: bool,
    ) -> list[Attempt | None]:
        """One call of a handler: for the member at ``start``, and those after it that are of the
        same bulk step; None for who is not to run.

        Raises:
            _CallFailedError: the transaction cannot be committed.
        """
        first = group[start]
        members = [first]
        if first.held.runnable.bulk:
            runnable = first.held.runnable
            members = list(takewhile(lambda m: m.held.runnable is runnable, group[start:]))
        places = [n for n, member in enumerate(members) if member.held.command in mine]
        ran: list[Attempt | None] = [None] * len(members)
        if not places:
            return ran
        if first.held.runnable.bulk:
            found = await self._executor.execute_bulk(
                [members[place].held for place in places], connection
            )
        else:
            if guarded:
                # One within the other: to release the last one first would be one more statement.
                await connection.execute(_SAVEPOINT, prepare=True)
            found = [await self._executor.execute(first.held, connection)]
        outcomes = [a.outcome for a in found if a is not None and not _is_clean(a)]
        if not any(isinstance(outcome, InDoubt) for outcome in outcomes):
            if connection.broken:
                raise _BrokeInHandlerError(first)
            if (misuse := _misuse(connection, outcomes)) is not None:
                found = [a and a.replaced(misuse) for a in found]
        for place, attempt in zip(places, found, strict=True):
            ran[place] = attempt
        if all(map(_is_clean, ran)):
            return ran
        if guarded and not first.held.runnable.bulk and _is_open(connection):
            self._guard = _GUARDED_GROUPS
            await connection.execute(_BACK_TO_SAVEPOINT)
            return [attempt and _rolled_back(attempt) for attempt in ran]
        raise _CallFailedError(start, ran)

    def _fail(self, member: Member, attempt: Attempt) -> None:
        """Commits a failed attempt; it was rolled back, so it has had no effect."""
        self._forget(member)
        self._advancer.add(_rolled_back(attempt), member.then)

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
                self._tell([self._fenced(member)])
            else:
                self._tell([(member, answer, None)])
        return still_open

    def _tell(self, ends: Sequence[End]) -> None:
        for member, answer, attempt in ends:
            self._forget(member)
            member.then(member.held, answer, attempt)

    def _fenced(self, member: Member) -> End:
        self._advancer.tell_refused(member.held)
        return member, None, _undone(member.held, {"type": "Fenced"})

    def _breaks_again(self, culprit: Member) -> bool:
        """Whether a handler breaks its connection whenever it runs."""
        self._breaks[culprit.held.command] += 1
        return self._breaks[culprit.held.command] >= _MOST_BREAKS

    def _forget(self, member: Member) -> None:
        if self._breaks:
            self._breaks.pop(member.held.command, None)
        self._under_way.discard(member)


def _is_open(connection: Connection) -> bool:
    """Whether the transaction can go on from a savepoint."""
    return connection.info.transaction_status in (
        TransactionStatus.INTRANS,
        TransactionStatus.INERROR,
    )


def _rolled_back(attempt: Attempt) -> Attempt:
    """A failed attempt whose writes were undone: it has had no effect, so nothing is in doubt."""
    outcome = attempt.outcome
    return attempt.replaced(Retried(outcome.error)) if isinstance(outcome, InDoubt) else attempt


def _arranged(group: Sequence[Member]) -> list[Member]:
    """A group in which those of one bulk step stand side by side."""
    calls: dict[object, list[Member]] = {}
    for member in group:
        runnable = member.held.runnable
        calls.setdefault(runnable if runnable.bulk else member.held.command, []).append(member)
    return [member for call in calls.values() for member in call]


def _is_clean(attempt: Attempt | None) -> bool:
    """Whether a transaction may be committed though this is what became of an attempt in it."""
    return attempt is None or attempt.wrote_nothing or isinstance(attempt.outcome, Done)


def _misuse(connection: Connection, failures: Sequence[Outcome]) -> Outcome | None:
    """What a handler has come to that left the transaction unusable; None: it did not. Seen only at
    the next statement, that would be taken for the next handler's fault."""
    status = connection.info.transaction_status
    if status == TransactionStatus.INTRANS:
        return None
    if status == TransactionStatus.INERROR:
        if failures:
            return None
        return Retried({
            "type": "TransactionAborted",
            "message": "a statement of the handler failed, and the handler went on as if it had "
            "not: let the error out, or put what may fail into `async with tx.transaction()`",
        })  # fmt: skip
    if not all(isinstance(failure, Retried) for failure in failures):
        return None
    return Retried({
        "type": "TransactionEnded",
        "message": "the handler ended its transaction or closed its connection: the engine commits "
        "both the handler's writes and the transition, so a handler may do neither",
    }, give_up=True)  # fmt: skip


def _broken(held: HeldCommand) -> Attempt:
    message = f"the connection broke {_MOST_BREAKS} times while this handler used it"
    return _undone(held, {"type": "ConnectionBroken", "message": message})


def _undone(held: HeldCommand, error: dict[str, Any]) -> Attempt:
    """The failed attempt of a command whose transaction was undone."""
    return Attempt(held, Retried(error), took=0.0, doubt_for=0.0, ended=clock())

"""Transactional steps: the handler's writes and its transition in one commit.

Those that wait while one transaction is under way share the next, one after the other, so that they
share a commit as well. Any failure rolls the whole group back; those before the offender then
commit on their own, the offender's outcome is committed as that of a failed attempt, and the
others go on together. So a handler may run more than once before its one commit.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg.pq import TransactionStatus

from outbox.definition.outcomes import Done, InDoubt, Retried, describe
from outbox.engine.advance import Advancer
from outbox.engine.execute import Attempt, Executor, LateError
from outbox.engine.hand import HeldCommand
from outbox.engine.lease import Lease
from outbox.engine.link import InterruptedStatementError, Link, clock
from outbox.store.connect import Connection
from outbox.store.functions import Answer, Functions

_LARGEST_GROUP = 100
_LONGEST_TRANSACTION = 0.5
_PATIENCE_MARGIN = 5.0
_MOST_BREAKS = 5

# What became of a member: an answer, None when it is no longer this worker's, or that it was too
# late.
End = Answer | None | LateError


class _MemberFailedError(Exception):
    """A handler did not succeed; the group is rolled back."""

    def __init__(self, place: int, attempt: Attempt | LateError) -> None:
        super().__init__()
        self.place = place
        self.attempt = attempt


class _BrokeInHandlerError(psycopg.OperationalError):
    """The connection broke while a handler used it: the server's fault, or what it made it do."""

    def __init__(self, culprit: HeldCommand) -> None:
        super().__init__("the connection broke in a handler's transaction")
        self.culprit = culprit


class Transactions:
    """Runs transactional commands in shared transactions, over one connection for each lane."""

    def __init__(
        self,
        links: Sequence[Link],
        functions: Functions,
        lease: Lease,
        executor: Executor,
        advancer: Advancer,
    ) -> None:
        self._links = links
        self._functions = functions
        self._lease = lease
        self._executor = executor
        self._advancer = advancer
        self._queue: deque[tuple[HeldCommand, asyncio.Future[tuple[End, Attempt | None]]]] = deque()
        self._filled = asyncio.Event()
        self._breaks: Counter[UUID] = Counter()

    async def run(self, held: HeldCommand) -> tuple[Answer | None, Attempt | None]:
        """Runs one command in a transaction: its answer and its attempt.

        Raises:
            LateError: it was too late to begin.
        """
        future: asyncio.Future[tuple[End, Attempt | None]] = (
            asyncio.get_running_loop().create_future()
        )
        self._queue.append((held, future))
        self._filled.set()
        end, attempt = await future
        if isinstance(end, LateError):
            raise end
        return end, attempt

    async def serve(self) -> None:
        """Serves until cancelled."""
        async with asyncio.TaskGroup() as lanes:
            for link in self._links:
                lanes.create_task(self._lane(link))

    async def _lane(self, link: Link) -> None:
        while True:
            await self._filled.wait()
            group = [self._queue.popleft() for _ in range(min(len(self._queue), _LARGEST_GROUP))]
            if not self._queue:
                self._filled.clear()
            if not group:
                continue
            ends = await self._settle(link, [held for held, _ in group])
            for (held, future), end in zip(group, ends, strict=True):
                self._breaks.pop(held.command, None)
                if not future.done():
                    future.set_result(end)

    async def _settle(
        self, link: Link, group: Sequence[HeldCommand]
    ) -> list[tuple[End, Attempt | None]]:
        """Brings every member to its end, in order."""
        if not group:
            return []
        try:
            ends = await link.once(lambda c: self._commit(c, group))
            return [*ends, *await self._settle(link, group[len(ends) :])]
        except _MemberFailedError as failure:
            before = await self._settle(link, group[: failure.place])
            offender = await self._fail(failure.attempt)
            return [*before, offender, *await self._settle(link, group[failure.place + 1 :])]
        except InterruptedStatementError as interrupted:
            match interrupted.__cause__:
                case _BrokeInHandlerError(culprit=culprit):
                    self._breaks[culprit.command] += 1
                    if self._breaks[culprit.command] >= _MOST_BREAKS:
                        return await self._settle_without(link, group, group.index(culprit))
            return await self._recall(link, group)
        except psycopg.Error as error:
            # At the commit, or in the advance: nobody says whose fault it is.
            if len(group) > 1:
                half = len(group) // 2
                return [
                    *await self._settle(link, group[:half]),
                    *await self._settle(link, group[half:]),
                ]
            return [await self._fail(_rolled_back(group[0], describe(error)))]

    async def _settle_without(
        self, link: Link, group: Sequence[HeldCommand], place: int
    ) -> list[tuple[End, Attempt | None]]:
        """Settles a group one of whose handlers breaks the connection whenever it runs."""
        error = {
            "type": "ConnectionBroken",
            "message": f"the connection broke {_MOST_BREAKS} times while this handler used it",
        }
        return [
            *await self._settle(link, group[:place]),
            await self._fail(_rolled_back(group[place], error)),
            *await self._settle(link, group[place + 1 :]),
        ]

    async def _commit(
        self, connection: Connection, group: Sequence[HeldCommand]
    ) -> list[tuple[End, Attempt | None]]:
        """Locks, runs the handlers and advances, in one transaction. Answers fewer than the group
        has when the handlers took long: row locks are not to be kept waiting for the last of
        them."""
        began = clock()
        patience = timedelta(
            seconds=max(held.runnable.timeout for held in group) + _PATIENCE_MARGIN
        )
        worker = self._lease.worker
        commands = [(held.command, held.fence) for held in group]
        attempts: dict[int, Attempt] = {}
        async with connection.transaction():
            mine = await self._functions.lock_held(connection, worker, commands, patience)
            for place, held in enumerate(group):
                if held.command not in mine:
                    continue
                try:
                    attempt = await self._executor.execute(held, connection)
                except LateError as late:
                    raise _MemberFailedError(place, late) from None
                if isinstance(attempt.outcome, InDoubt):
                    raise _MemberFailedError(place, attempt)
                if connection.broken:
                    raise _BrokeInHandlerError(held)
                attempt = _unless_misused(connection, attempt)
                if not isinstance(attempt.outcome, Done):
                    raise _MemberFailedError(place, attempt)
                attempts[place] = attempt
                if clock() - began > _LONGEST_TRANSACTION:
                    group = group[: place + 1]
                    break
            answers = await self._functions.advance(
                connection,
                worker,
                [attempt.to_report() for attempt in attempts.values()],
                keep=True,
            )
        by_command = {answer.command: answer for answer in answers}
        return [
            (self._advancer.tell(attempts[place], by_command[held.command]), attempts[place])
            if place in attempts
            else self._fenced(held)
            for place, held in enumerate(group)
        ]

    async def _fail(self, attempt: Attempt | LateError) -> tuple[End, Attempt | None]:
        """Commits a failed attempt; it was rolled back, so it has had no effect."""
        if isinstance(attempt, LateError):
            return attempt, None
        if isinstance(attempt.outcome, InDoubt):
            attempt = replace(attempt, outcome=Retried(attempt.outcome.error))
        return await self._advancer.advance(attempt), attempt

    async def _recall(
        self, link: Link, group: Sequence[HeldCommand]
    ) -> list[tuple[End, Attempt | None]]:
        """After a broken connection: asks what was committed, and runs what was not."""
        worker = self._lease.worker
        commands = [(held.command, held.fence) for held in group]
        answers = {
            answer.command: answer
            for answer in await link.run(lambda c: self._functions.recall(c, worker, commands))
        }
        still_open = [held for held in group if answers[held.command].verdict == "open"]
        again = dict(
            zip(
                (held.command for held in still_open),
                await self._settle(link, still_open),
                strict=True,
            )
        )
        ends: list[tuple[End, Attempt | None]] = []
        for held in group:
            answer = answers[held.command]
            if answer.verdict == "open":
                ends.append(again[held.command])
            elif answer.verdict == "fenced":
                ends.append(self._fenced(held))
            else:
                ends.append((answer, None))
        return ends

    def _fenced(self, held: HeldCommand) -> tuple[End, Attempt | None]:
        self._advancer.tell_refused(held)
        return None, None


def _unless_misused(connection: Connection, attempt: Attempt) -> Attempt:
    """The attempt; a failed one when its handler left the transaction unusable. Seen only at the
    next statement, that would be taken for the next handler's fault."""
    status = connection.info.transaction_status
    if status == TransactionStatus.INTRANS or not isinstance(attempt.outcome, Done | Retried):
        return attempt
    if status == TransactionStatus.INERROR:
        if isinstance(attempt.outcome, Retried):
            return attempt
        return replace(attempt, outcome=Retried({
            "type": "TransactionAborted",
            "message": "a statement of the handler failed, and the handler went on as if it had "
            "not: let the error out, or put what may fail into `async with tx.transaction()`",
        }))  # fmt: skip
    return replace(attempt, outcome=Retried({
        "type": "TransactionEnded",
        "message": "the handler ended its transaction or closed its connection: the engine commits "
        "both the handler's writes and the transition, so a handler may do neither",
    }, give_up=True))  # fmt: skip


def _rolled_back(held: HeldCommand, error: dict[str, Any]) -> Attempt:
    """The failed attempt of a command whose transaction was undone, though its handler was done."""
    return Attempt(held, Retried(error), took=0.0, doubt_for=0.0, ended=clock())

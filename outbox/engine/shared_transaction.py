"""One transaction for several commands: their locks, the calls of their handlers, and the advance.

Once a handler has failed, and for some time, every few calls are guarded by a savepoint, so that
the next failure undoes no more than those, which run again. A savepoint costs a round trip, which
is not worth it as long as all goes well.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import psycopg
from psycopg.pq import TransactionStatus

from outbox.definition.outcomes import InDoubt, Outcome, Retried
from outbox.engine.advance import Advancer, Then
from outbox.engine.attempt import Attempt
from outbox.engine.clock import clock
from outbox.engine.execute import Executor
from outbox.engine.hand import HeldCommand
from outbox.engine.lease import Lease
from outbox.store.connect import Connection
from outbox.store.functions import Answer, Functions
from outbox.store.patience import lent

LARGEST_GROUP = 200
_GUARDED_GROUPS = 50
# Of n calls behind a savepoint one in ten fails: 1/n + (n + 1)/20 round trips more for each, least
# at 4. And beyond 64 savepoints a transaction burdens everybody's snapshots.
_CALLS_A_SAVEPOINT = 4
_LONGEST_TRANSACTION = 0.5
_PATIENCE_MARGIN = 5.0
_SAVEPOINT = "savepoint before_handler"
_BACK_TO_SAVEPOINT = "rollback to savepoint before_handler"


@dataclass(slots=True, eq=False)
class Member:
    """A command that waits for its transaction, and who is told of its end."""

    held: HeldCommand
    then: Then


End = tuple[Member, Answer | None, Attempt | None]


class CallFailedError(Exception):
    """A call of a handler did not succeed; the transaction is rolled back.

    Args:
        members: those that it was for.
        attempts: what became of each of them; None of those that were not run.
    """

    def __init__(self, members: Sequence[Member], attempts: Sequence[Attempt | None]) -> None:
        super().__init__()
        self.members = members
        self.attempts = attempts


class BrokeInHandlerError(psycopg.OperationalError):
    """The connection broke while a handler used it: the server's fault, or what it made it do."""

    def __init__(self, culprit: Member) -> None:
        super().__init__("the connection broke in a handler's transaction")
        self.culprit = culprit


class SharedTransaction:
    """Commits groups of commands, one transaction each."""

    def __init__(
        self, functions: Functions, lease: Lease, executor: Executor, advancer: Advancer
    ) -> None:
        self._functions = functions
        self._lease = lease
        self._executor = executor
        self._advancer = advancer
        # How many more groups are guarded.
        self._guard = 0

    def guard(self) -> None:
        """From now on the calls are guarded by savepoints, for some time."""
        self._guard = _GUARDED_GROUPS

    async def commit(self, connection: Connection, group: Sequence[Member]) -> list[End]:
        """Locks, calls the handlers and advances, in one transaction. Answers fewer than the group
        has when the handlers took long: row locks are not to be kept waiting for the last of them.

        Raises:
            CallFailedError: a handler failed, and there was no savepoint.
            BrokeInHandlerError: the connection broke in a handler.
            psycopg.Error: the advance or the commit was refused.
        """
        patience = timedelta(
            seconds=max(member.held.runnable.timeout for member in group) + _PATIENCE_MARGIN
        )
        worker = self._lease.worker
        async with connection.transaction():
            mine = await self._functions.lock_held(
                connection, worker, [(m.held.command, m.held.fence) for m in group], patience
            )
            to_call = deque(place for place, m in enumerate(group) if m.held.command in mine)
            attempts = await self._call_each(connection, group, to_call)
            reports = [attempt.to_report() for attempt in attempts.values() if attempt is not None]
            answers = iter(await self._functions.advance(connection, worker, reports))
        self._advancer.count(len(reports))
        ends: list[End] = []
        for place, attempt in attempts.items():
            answer = None if attempt is None else self._advancer.tell(attempt, next(answers))
            ends.append((group[place], answer, attempt))
        ends += [self.fenced(member) for member in group if member.held.command not in mine]
        return ends

    def fenced(self, member: Member) -> End:
        """The end of a command that is no longer this worker's."""
        self._advancer.tell_refused(member.held)
        return member, None, Attempt.failed(member.held, {"type": "Fenced"})

    async def _call_each(
        self, connection: Connection, group: Sequence[Member], to_call: deque[int]
    ) -> dict[int, Attempt | None]:
        """Calls the handlers of those in ``to_call``, as long as there is time. What became of
        each, by its place; None of those that it was too late to begin."""
        until = clock() + _LONGEST_TRANSACTION
        attempts: dict[int, Attempt | None] = {}
        guarded = bool(self._guard)
        if guarded:
            self._guard -= 1
        covered: list[int] | None = None  # what the last savepoint would undo
        while to_call and clock() < until:
            places = _next_call(group, to_call)
            if group[places[0]].held.runnable.bulk:
                covered = None
            elif guarded and (covered is None or len(covered) >= _CALLS_A_SAVEPOINT):
                # One within the other: to release the last one first would be one more statement.
                await connection.execute(_SAVEPOINT, prepare=True)
                covered = []
            members = [group[place] for place in places]
            found = await self._call(connection, members)
            if all(attempt is None or attempt.is_clean for attempt in found):
                attempts.update(zip(places, found, strict=True))
                if covered is not None:
                    covered += places
                continue
            if covered is None or not _is_open(connection):
                raise CallFailedError(members, found)
            self.guard()
            await connection.execute(_BACK_TO_SAVEPOINT, prepare=True)
            for place, attempt in zip(places, found, strict=True):
                attempts[place] = attempt and attempt.rolled_back()
            for place in covered:
                del attempts[place]
            to_call.extendleft(reversed(covered))
            covered = []
        return attempts

    async def _call(
        self, connection: Connection, members: Sequence[Member]
    ) -> Sequence[Attempt | None]:
        """One call of a handler; several members are of one bulk step."""
        first = members[0]
        with lent(connection):
            if first.held.runnable.bulk:
                found = await self._executor.execute_bulk([m.held for m in members], connection)
            else:
                found = [await self._executor.execute(first.held, connection)]
        failures = [a.outcome for a in found if a is not None and not a.is_clean]
        if not any(isinstance(outcome, InDoubt) for outcome in failures):
            if connection.broken:
                raise BrokeInHandlerError(first)
            if (misuse := _misuse(connection, failures)) is not None:
                found = [attempt and attempt.replaced(misuse) for attempt in found]
        return found


def _next_call(group: Sequence[Member], to_call: deque[int]) -> list[int]:
    """Takes out the places of those that one call serves: those of one bulk step stand side by
    side."""
    places = [to_call.popleft()]
    runnable = group[places[0]].held.runnable
    if runnable.bulk:
        while to_call and group[to_call[0]].held.runnable is runnable:
            places.append(to_call.popleft())
    return places


def _is_open(connection: Connection) -> bool:
    """Whether the transaction can go on from a savepoint."""
    return connection.info.transaction_status in (
        TransactionStatus.INTRANS,
        TransactionStatus.INERROR,
    )


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

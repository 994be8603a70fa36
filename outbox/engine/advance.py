"""Group commit: while one advance is in flight, finished outcomes queue up; the next takes them
all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import orjson
import psycopg

from outbox.definition.outcomes import Decision, Done, Refused, Retried, storable
from outbox.engine.attempt import Attempt
from outbox.engine.clock import clock
from outbox.engine.hand import HeldCommand
from outbox.engine.lease import Lease
from outbox.engine.link import InterruptedStatementError, Link
from outbox.engine.trace import Tracer
from outbox.store.connect import Connection
from outbox.store.functions import Answer, Functions, Report
from outbox.tally import Tally
from outbox.telemetry import Level, Telemetry

_LARGEST_BATCH = 1000
_TRACE_AGAIN = 60.0
_TIMEOUTS = (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable)

Then = Callable[[HeldCommand, Answer | None, Attempt | None], None]
"""Called with a command, what became of its outcome, and the attempt; without an answer the command
was no longer this worker's."""


class TooLongError(Exception):
    """The database has a limit of time, which a batch of several did not keep."""


class Advancer:
    """Commits outcomes in batches. Alone, an outcome has the latency of one commit; under load,
    batches form by themselves."""

    def __init__(
        self,
        link: Link,
        functions: Functions,
        lease: Lease,
        telemetry: Telemetry,
        tracer: Tracer | None = None,
    ) -> None:
        self._link = link
        self._functions = functions
        self._lease = lease
        self._telemetry = telemetry
        self._tracer = tracer
        self._queue: list[tuple[Attempt, Then]] = []
        self._filled = asyncio.Event()
        self._traced: dict[tuple[str, str, str], float] = {}
        self.emitted = asyncio.Event()
        """Set when events were committed."""

    def add(self, attempt: Attempt, then: Then) -> None:
        """Queues one attempt's outcome for the next commit."""
        self._queue.append((attempt, then))
        self._filled.set()

    async def run(self) -> None:
        """Commits until cancelled."""
        while True:
            await self._filled.wait()
            await self._let_others_join()
            batch = self._take()
            if not self._queue:
                self._filled.clear()
            answers = await self._commit([attempt for attempt, _ in batch])
            for (attempt, then), answer in zip(batch, answers, strict=True):
                then(attempt.held, self.tell(attempt, answer), attempt)

    def tell(self, attempt: Attempt, answer: Answer) -> Answer | None:
        """Reports a committed outcome to the telemetry: each transition, and each refusal. The
        answer, or None when it was refused."""
        if answer.verdict == "fenced":
            self.tell_refused(attempt.held)
            return None
        if attempt.events is not None:
            self.emitted.set()
        done = isinstance(attempt.outcome, Done)
        if (tally := self._telemetry.tally) is not None:
            self._count(tally, attempt, answer, done)
        if self._tracer is not None and answer.status in ("COMPLETED", "FAILED"):
            try:
                self._tracer.end_saga(attempt.held, answer.status)
            except Exception as error:  # noqa: BLE001 - of the user's span processors
                self._telemetry.emit("trace_failed", "warning", error=repr(error))
        # A refusal is an answer, which the saga was made for; what else fails is trouble.
        quiet = isinstance(attempt.outcome, Done | Refused | Decision)
        level: Level = "info" if quiet else "warning"
        if self._telemetry.wants(level):
            self._telemetry.emit(
                "transition",
                level,
                **attempt.held.fields,
                outcome="done" if done else attempt.to_report().outcome,
                status=answer.status,
                seq=answer.seq,
                took=round(attempt.took, 4),
                **({} if attempt.error is None else {"error": attempt.error}),
                **self._trace(attempt),
            )
        return answer

    def _trace(self, attempt: Attempt) -> dict[str, str]:
        """An unexpected exception's traceback, under the name by which logs print it on lines of
        its own; once a minute for each step and kind of error: an outage has many alike."""
        if attempt.traceback is None or attempt.error is None:
            return {}
        saga = attempt.held.shared.saga.type
        what, now = (saga, attempt.held.step.name, attempt.error["type"]), clock()
        if what in self._traced and now < self._traced[what] + _TRACE_AGAIN:
            return {}
        self._traced[what] = now
        return {"exception": attempt.traceback}

    def _count(self, tally: Tally, attempt: Attempt, answer: Answer, done: bool) -> None:
        held = attempt.held
        tally.transition(
            held.shared.saga.type,
            held.step.name,
            held.kind,
            "done" if done else attempt.to_report().outcome,
            None if isinstance(attempt.outcome, Decision) else attempt.took,
        )
        if answer.status in ("COMPLETED", "FAILED"):
            tally.ended[held.shared.saga.type, answer.status] += 1

    def count(self, outcomes: int) -> None:
        """Counts a commit of so many outcomes."""
        if outcomes and (tally := self._telemetry.tally) is not None:
            tally.commits.add(outcomes)

    def tell_refused(self, held: HeldCommand) -> None:
        """Reports that a command is no longer this worker's: it was slow, and taken for dead."""
        self._telemetry.emit(
            "outcome_refused",
            "warning",
            **held.fields,
            message="the command is no longer this worker's (fence): nothing was committed",
        )

    async def _let_others_join(self) -> None:
        """Waits as long as each turn of the loop brings more: those who end at once share a
        commit."""
        seen = 0
        while seen < len(self._queue) < _LARGEST_BATCH:
            seen = len(self._queue)
            await asyncio.sleep(0)

    def _take(self) -> list[tuple[Attempt, Then]]:
        """The next batch, with each command at most once: of a saga that was taken from this worker
        and claimed anew, two attempts may have ended."""
        batch: dict[int, tuple[Attempt, Then]] = {}
        left = self._queue[_LARGEST_BATCH:]
        for entry in self._queue[:_LARGEST_BATCH]:
            if batch.setdefault(entry[0].held.command.int, entry) is not entry:
                left.append(entry)
        self._queue = left
        return list(batch.values())

    async def _commit(self, attempts: Sequence[Attempt]) -> list[Answer]:
        """The answers, in order. A batch that the database refuses is halved until the offender is
        alone; its outcome becomes a failed attempt."""
        try:
            return await self._send([attempt.to_report() for attempt in attempts])
        except TooLongError:
            pass
        except psycopg.Error as error:
            if len(attempts) == 1:
                return await self._send([self._unstorable(attempts[0], error)])
        half = len(attempts) // 2
        return await self._commit(attempts[:half]) + await self._commit(attempts[half:])

    async def _send(self, reports: Sequence[Report]) -> list[Answer]:
        # Safe to send again after a lost answer: what was applied is answered as it was.
        async def work(connection: Connection) -> list[Answer]:
            return await self._functions.advance(connection, self._lease.worker, reports)

        while True:
            try:
                answers = await self._link.once(work)
            except InterruptedStatementError as interrupted:
                if len(reports) > 1 and isinstance(interrupted.__cause__, _TIMEOUTS):
                    raise TooLongError from interrupted
            else:
                self.count(len(reports))
                return answers

    def _unstorable(self, attempt: Attempt, error: psycopg.Error) -> Report:
        # Not all of str(error), which shows the statement and the row.
        message = storable(error.diag.message_primary or type(error).__name__)
        self._telemetry.emit("outcome_not_storable", "error", **attempt.held.fields, error=message)
        described = {"type": "OutcomeNotStorable", "message": message[:2000]}
        outcome = Retried(described) if isinstance(attempt.outcome, Done) else attempt.outcome
        report = attempt.replaced(outcome).to_report()
        report.error = orjson.dumps(described).decode()
        return report

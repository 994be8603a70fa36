"""Group commit: while one advance is in flight, finished outcomes queue up; the next takes them
all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import orjson
import psycopg

from outbox.definition.outcomes import Done, Retried, storable
from outbox.engine.execute import Attempt
from outbox.engine.hand import HeldCommand
from outbox.engine.lease import Lease
from outbox.engine.link import Link
from outbox.store.connect import Connection
from outbox.store.functions import Answer, Functions, Report
from outbox.telemetry import Telemetry

_LARGEST_BATCH = 1000


class Advancer:
    """Commits outcomes in batches. Alone, an outcome has the latency of one commit; under load,
    batches form by themselves."""

    def __init__(
        self, link: Link, functions: Functions, lease: Lease, telemetry: Telemetry
    ) -> None:
        self._link = link
        self._functions = functions
        self._lease = lease
        self._telemetry = telemetry
        self._queue: list[tuple[Attempt, asyncio.Future[Answer | None]]] = []
        self._filled = asyncio.Event()

    async def advance(self, attempt: Attempt) -> Answer | None:
        """Commits one attempt's outcome; None when the command was no longer this worker's."""
        future: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        self._queue.append((attempt, future))
        self._filled.set()
        return await future

    async def run(self) -> None:
        """Commits until cancelled."""
        while True:
            await self._filled.wait()
            batch, self._queue = self._queue[:_LARGEST_BATCH], self._queue[_LARGEST_BATCH:]
            if not self._queue:
                self._filled.clear()
            answers = await self._commit([attempt for attempt, _ in batch])
            for (attempt, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(self.tell(attempt, answer))

    def tell(self, attempt: Attempt, answer: Answer) -> Answer | None:
        """Reports a committed outcome to the telemetry: each transition, and each refusal."""
        held = attempt.held
        report = attempt.to_report()
        if answer.verdict == "fenced":
            self.tell_refused(held)
            return None
        self._telemetry.emit(
            "transition",
            "info" if report.outcome == "done" else "warning",
            **held.fields,
            outcome=report.outcome,
            status=answer.status,
            seq=answer.seq,
            took=round(attempt.took, 4),
            **({} if attempt.error is None else {"error": attempt.error}),
        )
        return answer

    def tell_refused(self, held: HeldCommand) -> None:
        """Reports that a command is no longer this worker's: it was slow, and taken for dead."""
        self._telemetry.emit(
            "outcome_refused",
            "warning",
            **held.fields,
            message="the command is no longer this worker's (fence): nothing was committed",
        )

    async def _commit(self, attempts: Sequence[Attempt]) -> list[Answer]:
        """The answers, in order. A batch that the database refuses is halved until the offender is
        alone; its outcome becomes a failed attempt."""
        reports = [attempt.to_report() for attempt in attempts]
        try:
            return await self._send(reports)
        except psycopg.Error as error:
            if len(attempts) > 1:
                half = len(attempts) // 2
                return await self._commit(attempts[:half]) + await self._commit(attempts[half:])
            return await self._send([self._unstorable(attempts[0], error)])

    async def _send(self, reports: Sequence[Report]) -> list[Answer]:
        # Safe to send again after a lost answer: what was applied is answered as it was.
        async def work(connection: Connection) -> list[Answer]:
            return await self._functions.advance(connection, self._lease.worker, reports, keep=True)

        answers = {answer.command: answer for answer in await self._link.run(work)}
        return [answers[report.command] for report in reports]

    def _unstorable(self, attempt: Attempt, error: psycopg.Error) -> Report:
        # Not all of str(error), which shows the statement and the row.
        message = storable(error.diag.message_primary or type(error).__name__)
        self._telemetry.emit("outcome_not_storable", "error", **attempt.held.fields, error=message)
        described = {"type": "OutcomeNotStorable", "message": message[:2000]}
        outcome = Retried(described) if isinstance(attempt.outcome, Done) else attempt.outcome
        replaced = replace(attempt, outcome=outcome).to_report()
        return Report(
            command=replaced.command,
            fence=replaced.fence,
            outcome=replaced.outcome,
            error=orjson.dumps(described).decode(),
            no_effect=replaced.no_effect,
            give_up=replaced.give_up,
            counted=replaced.counted,
            after=replaced.after,
            doubt_for=replaced.doubt_for,
            took=replaced.took,
        )

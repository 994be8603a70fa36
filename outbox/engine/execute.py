"""Running one attempt: from a command in hand to an outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, assert_never

import orjson

from outbox.definition.outcomes import (
    Done,
    InDoubt,
    Outcome,
    Refused,
    Retried,
    describe,
    from_exception,
    has_nul,
)
from outbox.engine.hand import HeldCommand
from outbox.engine.lease import Lease
from outbox.engine.link import clock
from outbox.engine.threads import DrainingError, Threads
from outbox.store.connect import Connection
from outbox.store.functions import Report
from outbox.telemetry import Telemetry

# How long a cancelled coroutine may take to end before it is left behind.
_CANCEL_SECONDS = 1.0


class LateError(Exception):
    """The command was in hand for too long without being begun, or it waits for a thread while the
    worker ends; it is given back."""


class HandlerExitedError(Exception):
    """A handler called ``sys.exit``, which is not to end the worker."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """An executed attempt: what it came to, how long its effect may still be under way, and when
    it ended, by ``link.clock()``."""

    held: HeldCommand
    outcome: Outcome
    took: float
    doubt_for: float
    ended: float

    @property
    def error(self) -> dict[str, Any] | None:
        """What went wrong, or None."""
        return None if isinstance(self.outcome, Done) else self.outcome.error

    @property
    def value(self) -> Any:
        """The result as later steps load it."""
        match self.outcome:
            case Done(result=str() as result):
                return orjson.loads(result)
            case _:
                return None

    def to_report(self) -> Report:
        """The outcome as the database is told it."""
        held, took = self.held, timedelta(seconds=self.took)
        error = None if self.error is None else orjson.dumps(self.error).decode()
        doubt = timedelta(seconds=self.doubt_for)
        match self.outcome:
            case Done(result=result):
                return Report(held.command, held.fence, "done", result=result, took=took)
            case Refused():
                return Report(held.command, held.fence, "rejected", error=error, took=took)
            case Retried(no_effect=no_effect, give_up=give_up, after=after):
                return Report(
                    held.command,
                    held.fence,
                    "retry",
                    error=error,
                    no_effect=no_effect,
                    give_up=give_up,
                    after=None if after is None else timedelta(seconds=after),
                    doubt_for=doubt,
                    took=took,
                )
            case InDoubt(counted=counted):
                return Report(
                    held.command,
                    held.fence,
                    "in_doubt",
                    error=error,
                    counted=counted,
                    doubt_for=doubt,
                    took=took,
                )
            case _:
                assert_never(self.outcome)


class Executor:
    """Runs handlers: coroutines on the loop, plain functions in threads.

    Args:
        resources: what the app's lifespan yielded.
        threads: how many plain functions may run at once.
    """

    def __init__(
        self, lease: Lease, telemetry: Telemetry, *, resources: Iterable[object], threads: int
    ) -> None:
        self._lease = lease
        self._telemetry = telemetry
        self._resources = tuple(resources)
        self.threads = Threads(threads)
        self._left_behind: set[asyncio.Future[Any]] = set()
        self.shutting_down = False

    @property
    def left_behind(self) -> int:
        """How many handlers outlived their time and still run."""
        return len(self._left_behind)

    async def execute(self, held: HeldCommand, tx: Connection | None = None) -> Attempt:
        """One attempt. ``tx`` is the connection of a transactional step; it is closed when its
        handler outlives its time.

        Raises:
            LateError: it is too late to begin; nothing was done.
        """
        await self._admit(held)
        runnable = held.runnable
        began = clock()
        outcome: Outcome
        try:
            running = self._begin(held, tx)
        except Exception as error:  # noqa: BLE001 - the stored input is not what the model accepts
            outcome = from_exception(error, runnable.retry)
        else:
            outcome = await self._watch(held, running, tx)
        took = clock() - began
        doubt = 0.0 if isinstance(outcome, Done) else max(0.0, runnable.timeout - took)
        return Attempt(held, outcome, took, doubt, began + took)

    async def _admit(self, held: HeldCommand) -> None:
        """Waits until an attempt may begin: the lease is fresh, and a plain function has a thread,
        which is its own until it ends.

        Raises:
            LateError: it may not begin any more.
        """
        threaded = not held.runnable.is_async
        if threaded:
            try:
                await self.threads.reserve()
            except DrainingError:
                raise LateError from None
        try:
            await self._lease.fresh()
            if clock() > held.begin_before:
                raise LateError
        except BaseException:
            if threaded:
                self.threads.give_back()
            raise

    def _begin(self, held: HeldCommand, tx: Connection | None) -> asyncio.Future[Any]:
        """Starts the handler: in a task of its own, so that it can be left behind, or a thread."""
        handler = held.runnable.handler
        if held.runnable.is_async:
            command = held.to_command(self._resources)
            called = handler(command) if tx is None else handler(command, tx)
            return asyncio.ensure_future(_contained(called))
        try:
            command = held.to_command(self._resources)
        except BaseException:
            self.threads.give_back()
            raise
        return self.threads.run(lambda command: _call_contained(handler, command), command)

    async def _watch(
        self, held: HeldCommand, running: asyncio.Future[Any], tx: Connection | None
    ) -> Outcome:
        """The handler's outcome, within its time."""
        try:
            await asyncio.wait({running}, timeout=held.runnable.timeout)
            timed_out = not running.done()
            if timed_out:
                await self._end(held, running, tx)
        except asyncio.CancelledError:
            await self._end(held, running, tx)
            if tx is not None or not self.shutting_down:
                raise
            message = "the worker shut down during the attempt"
            return InDoubt({"type": "WorkerShutdown", "message": message}, counted=False)
        if running.done() and running.cancelled() and not timed_out:
            return InDoubt(
                {"type": "Cancelled", "message": "the handler was cancelled from within"}
            )
        if not running.done() or running.cancelled():
            message = f"no answer within {held.runnable.timeout:g} s"
            return InDoubt({"type": "Timeout", "message": message})
        match running.exception():
            case None:
                return self._keep(held, running.result())
            case Exception() as error:
                return from_exception(error, held.runnable.retry)
            case error:
                raise error

    async def _end(
        self, held: HeldCommand, running: asyncio.Future[Any], tx: Connection | None
    ) -> None:
        """Cancels a handler, and leaves it behind when that does not end it: a thread cannot be
        cancelled, a coroutine may refuse to. Its result, when it comes, is refused."""
        if held.runnable.is_async:
            running.cancel()
            await asyncio.wait({running}, timeout=_CANCEL_SECONDS)
        if running.done():
            return
        if tx is not None:
            await tx.close()
        if not held.runnable.is_async:
            self.threads.leave_behind(running)
        self._left_behind.add(running)
        running.add_done_callback(lambda done: self._came_late(held, done))

    def _came_late(self, held: HeldCommand, future: asyncio.Future[Any]) -> None:
        self._left_behind.discard(future)
        error = None if future.cancelled() else future.exception()
        self._telemetry.emit(
            "late_result_refused",
            "warning",
            **held.fields,
            error=None if error is None else describe(error)["message"],
        )

    def _keep(self, held: HeldCommand, value: object) -> Outcome:
        """The result as JSON, or a failed attempt when it cannot be stored."""
        try:
            result = held.runnable.dump_result(value)
        except Exception as error:  # noqa: BLE001 - pydantic calls the user's serializers
            return Retried(
                {"type": "ResultNotStorable", "message": describe(error)["message"]},
            )
        if result is None:
            return Done(None)
        if has_nul(result):
            return Retried(
                {"type": "ResultNotStorable", "message": "the result contains a NUL character"}
            )
        if len(result.encode()) > self._lease.max_result_bytes:
            message = (
                f"the result has {len(result.encode())} bytes, the limit is "
                f"{self._lease.max_result_bytes} (setting.max_result_bytes)"
            )
            return Retried({"type": "ResultNotStorable", "message": message})
        return Done(result)


async def _contained(called: Awaitable[Any]) -> Any:
    try:
        return await called
    except SystemExit as error:
        raise HandlerExitedError(f"the handler called sys.exit({error.code!r})") from error


def _call_contained(handler: Callable[[Any], Any], command: object) -> Any:
    try:
        return handler(command)
    except SystemExit as error:
        raise HandlerExitedError(f"the handler called sys.exit({error.code!r})") from error

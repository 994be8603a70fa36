"""Running one attempt: from a command in hand to an outcome.

By callbacks, not by a task that waits for each attempt: between two commits a saga costs this
process little more than its handler.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any

from outbox.definition.outcomes import (
    Done,
    InDoubt,
    Outcome,
    Rejected,
    Retried,
    RetryAfter,
    describe,
    from_exception,
    has_nul,
)
from outbox.definition.step import Runnable
from outbox.engine.attempt import Attempt
from outbox.engine.clock import clock
from outbox.engine.hand import HeldCommand
from outbox.engine.lease import Lease
from outbox.engine.threads import DrainingError, Threads
from outbox.engine.watch import Watch, Watched
from outbox.store.connect import Connection
from outbox.telemetry import Telemetry

Then = Callable[[HeldCommand, Attempt | None], None]
"""Called with what an attempt came to; None: it was not begun, and is to be given back."""


class HandlerExitedError(Exception):
    """A handler called ``sys.exit``, which is not to end the worker."""


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
        self._watch = Watch(telemetry)
        self._preparing: set[asyncio.Task[None]] = set()
        self.threads = Threads(threads)

    @property
    def left_behind(self) -> int:
        """How many handlers outlived their time and still run."""
        return len(self._watch.left_behind)

    def start(self, held: HeldCommand, then: Then) -> None:
        """Begins an attempt, at once or when it may."""
        if held.runnable.is_async and self._lease.is_fresh:
            self._begin(held, then)
        else:
            preparing = asyncio.create_task(self._begin_when_ready(held, then))
            self._preparing.add(preparing)
            preparing.add_done_callback(self._preparing.discard)

    def drain(self) -> None:
        """Begins nothing more that waits for a thread."""
        self.threads.drain()

    def shut_down(self) -> None:
        """Ends what runs: it is in doubt, and not counted against its policy."""
        self._watch.stop_all("shutdown")
        for preparing in self._preparing:
            preparing.cancel()

    def close(self) -> None:
        """Leaves behind what still runs."""
        self._watch.stop_all("dropped")
        self._watch.close()
        self.threads.close()

    async def execute(self, held: HeldCommand, tx: Connection) -> Attempt | None:
        """One attempt of a transactional step; None: it was not begun. The transaction's connection
        is closed when the handler outlives its time."""
        await self._lease.fresh()
        if clock() > held.begin_before:
            return None
        try:
            called = held.runnable.handler(held.to_command(self._resources), tx)
        except Exception as error:  # noqa: BLE001 - the stored input is not what the model accepts
            return self._unbegun(held, error)
        watched = await self._run_in(tx, called, held.runnable.timeout, held)
        return self._to_attempt(held, watched, self._outcome(held.runnable, watched))

    async def execute_bulk(
        self, group: Sequence[HeldCommand], tx: Connection
    ) -> list[Attempt | None]:
        """One attempt for each of some commands of one bulk step, by one call of its handler."""
        await self._lease.fresh()
        now = clock()
        attempts: list[Attempt | None] = [None] * len(group)
        places, commands = [], []
        for place, held in enumerate(group):
            if now > held.begin_before:
                continue
            try:
                commands.append(held.to_command(self._resources))
            except Exception as error:  # noqa: BLE001 - the stored input is not what the model accepts
                attempts[place] = self._unbegun(held, error)
            else:
                places.append(place)
        if not places:
            return attempts
        runnable = group[0].runnable
        called = runnable.handler(commands, tx)
        watched = await self._run_in(tx, called, runnable.timeout, *(group[p] for p in places))
        outcomes = self._outcomes(runnable, watched, len(places))
        for place, (outcome, wrote_nothing) in zip(places, outcomes, strict=True):
            attempt = attempts[place] = self._to_attempt(group[place], watched, outcome)
            attempt.wrote_nothing = wrote_nothing
        return attempts

    async def _begin_when_ready(self, held: HeldCommand, then: Then) -> None:
        """Waits until an attempt may begin: the lease is fresh, and a plain function has a thread,
        which is its own until it ends."""
        threaded = not held.runnable.is_async
        reserved = False
        try:
            if threaded:
                await self.threads.reserve()
                reserved = True
            await self._lease.fresh()
        except (DrainingError, asyncio.CancelledError):
            if reserved:
                self.threads.give_back()
            then(held, None)
        else:
            self._begin(held, then)

    def _begin(self, held: HeldCommand, then: Then) -> None:
        """Starts the handler: in a task of its own, so that it can be left behind, or in a thread
        that is reserved for it."""
        runnable = held.runnable
        began = clock()
        command = None
        try:
            if began <= held.begin_before:
                command = held.to_command(self._resources)
        except Exception as error:  # noqa: BLE001 - the stored input is not what the model accepts
            attempt: Attempt | None = self._unbegun(held, error)
        else:
            attempt = None
        if command is None:
            if not runnable.is_async:
                self.threads.give_back()
            then(held, attempt)
            return

        def ended(watched: Watched) -> None:
            outcome = self._outcome(runnable, watched)
            if not watched.future.done():
                self._await_late(watched, held)
            then(held, self._to_attempt(held, watched, outcome))

        running: asyncio.Future[Any]
        if runnable.is_async:
            running = asyncio.get_running_loop().create_task(_contained(runnable.handler(command)))
        else:
            handler = runnable.handler
            running = self.threads.run(lambda given: _call_contained(handler, given), command)
        self._watch.add(
            running,
            began=began,
            timeout=runnable.timeout,
            ended=ended,
            is_async=runnable.is_async,
        )

    async def _run_in(
        self,
        tx: Connection,
        called: Coroutine[Any, Any, Any],
        timeout: float,
        *group: HeldCommand,
    ) -> Watched:
        """Runs a transactional handler to its end; cancelled, it ends it first."""
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[None] = loop.create_future()

        def ended(_: Watched) -> None:
            if not waiting.done():
                waiting.set_result(None)

        task = loop.create_task(_contained(called))
        watched = self._watch.add(task, began=clock(), timeout=timeout, ended=ended, is_async=True)
        try:
            await waiting
        except asyncio.CancelledError:
            waiting = loop.create_future()
            self._watch.stop(watched, "dropped")
            if not task.done():
                await waiting
            if not task.done():
                self._await_late(watched, *group)
                await tx.close()
            raise
        if not task.done():
            self._await_late(watched, *group)
            await tx.close()
        return watched

    def _await_late(self, watched: Watched, *group: HeldCommand) -> None:
        """Refuses, when it comes, the result of a handler that is left behind."""
        if not watched.cancellable:
            self.threads.leave_behind(watched.future)

        def came(future: asyncio.Future[Any]) -> None:
            error = None if future.cancelled() else future.exception()
            for held in group:
                self._telemetry.emit(
                    "late_result_refused",
                    "warning",
                    **held.fields,
                    error=None if error is None else describe(error)["message"],
                )

        watched.future.add_done_callback(came)

    def _unbegun(self, held: HeldCommand, error: Exception) -> Attempt:
        outcome = from_exception(error, held.runnable.retry)
        return Attempt(held, outcome, 0.0, 0.0, clock(), wrote_nothing=True)

    def _to_attempt(self, held: HeldCommand, watched: Watched, outcome: Outcome) -> Attempt:
        ended = clock()
        took = ended - watched.began
        doubt = 0.0 if type(outcome) is Done else max(0.0, held.runnable.timeout - took)
        return Attempt(held, outcome, took, doubt, ended)

    def _outcome(self, runnable: Runnable, watched: Watched) -> Outcome:
        """What one handler's call came to."""
        return _failure(runnable, watched) or self._keep(runnable, watched.future.result())

    def _outcomes(
        self, runnable: Runnable, watched: Watched, count: int
    ) -> list[tuple[Outcome, bool]]:
        """What one call for ``count`` commands came to, for each of them; and whether the handler
        says that it has written nothing for it."""
        if (failed := _failure(runnable, watched)) is not None:
            return [(failed, False)] * count
        given = watched.future.result()
        if not isinstance(given, list | tuple) or len(given) != count:
            number = f"{len(given)} of them" if isinstance(given, list | tuple) else type(given)
            message = (
                "a bulk handler returns a list with one result, Rejected or RetryAfter for each of "
                f"its commands, in their order: it was given {count}, and returned {number}"
            )
            return [(Retried({"type": "WrongOutcomes", "message": message}), False)] * count
        return [
            (from_exception(value, runnable.retry), True)
            if isinstance(value, Rejected | RetryAfter)
            else (self._keep(runnable, value), False)
            for value in given
        ]

    def _keep(self, runnable: Runnable, value: object) -> Outcome:
        """The result as JSON, or a failed attempt when it cannot be stored."""
        if value is None:
            return Done(None)
        try:
            result = runnable.dump_result(value)
        except Exception as error:  # noqa: BLE001 - pydantic calls the user's serializers
            return Retried({"type": "ResultNotStorable", "message": describe(error)["message"]})
        if has_nul(result):
            return Retried(
                {"type": "ResultNotStorable", "message": "the result contains a NUL character"}
            )
        if len(result) > self._lease.max_result_bytes:
            message = (
                f"the result has {len(result)} bytes, the limit is "
                f"{self._lease.max_result_bytes} (setting.max_result_bytes)"
            )
            return Retried({"type": "ResultNotStorable", "message": message})
        return Done(result)


def _failure(runnable: Runnable, watched: Watched) -> Outcome | None:
    """Why a handler's call has no result; None: it has one."""
    future = watched.future
    if not future.done() or future.cancelled():
        if watched.why == "timeout":
            message = f"no answer within {runnable.timeout:g} s"
            return InDoubt({"type": "Timeout", "message": message})
        if watched.why is None:
            return InDoubt(
                {"type": "Cancelled", "message": "the handler was cancelled from within"}
            )
    elif (error := future.exception()) is None:
        return None
    elif watched.why != "shutdown":
        return from_exception(error, runnable.retry)
    message = "the worker shut down during the attempt"
    return InDoubt({"type": "WorkerShutdown", "message": message}, counted=False)


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

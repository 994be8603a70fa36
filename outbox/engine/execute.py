"""Running one attempt: from a command in hand to an outcome.

Each handler has a task or a thread of its own, which says what it came to by a callback: nobody
waits for it in a second task, so that between two commits a saga costs this process little more
than its handler.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from outbox.definition.command import Command, Memory, events_json
from outbox.definition.outcomes import (
    Branched,
    Done,
    Failure,
    Outcome,
    Rejected,
    Retried,
    RetryAfter,
    from_exception,
)
from outbox.definition.step import Runnable
from outbox.engine.attempt import Attempt, checked, keep
from outbox.engine.clock import clock
from outbox.engine.hand import HeldCommand
from outbox.engine.lease import Lease
from outbox.engine.threads import DrainingError, Threads
from outbox.engine.trace import CallSpan, Tracer
from outbox.engine.watch import Watch, Watched
from outbox.store.connect import Connection, cut
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
        memory: makes what a command remembers its sub-effects by.
        tracer: makes a span of each attempt.
    """

    def __init__(
        self,
        lease: Lease,
        telemetry: Telemetry,
        *,
        resources: Iterable[object],
        threads: int,
        memory: Callable[[HeldCommand], Memory] | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self._lease = lease
        self._telemetry = telemetry
        self._resources = tuple(resources)
        self._memory = memory
        self._tracer = tracer
        self._watch = Watch()
        self._preparing: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self.threads = Threads(threads)

    @property
    def left_behind(self) -> int:
        """How many handlers outlived their time and still run."""
        return self._watch.left_behind

    def start(self, held: HeldCommand, then: Then) -> None:
        """Begins an attempt, at once or when it may."""
        if held.runnable.is_async and self._lease.is_fresh:
            self._begin(held, then)
        else:
            preparing = self._loop.create_task(self._begin_when_ready(held, then))
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

    def decide(self, held: HeldCommand) -> Attempt | None:
        """What becomes of a command without a handler: it is skipped, it waits, it branches; None:
        its handler is to be called."""
        if held.element is not None:
            return None  # decided when its step branched
        began = clock()
        try:
            command = held.to_command(self._resources)
            outcome = held.runnable.decide(command, held.awaits, held.arrived)
        except Exception as error:  # noqa: BLE001 - the user's functions may raise anything
            return Attempt.unbegun(held, error)
        if outcome is None:
            return None
        if isinstance(outcome, Branched) and outcome.elements is not None:
            outcome = checked(outcome, self._lease)
        ended = clock()
        return Attempt(held, outcome, ended - began, 0.0, ended)

    async def execute(self, held: HeldCommand, tx: Connection) -> Attempt | None:
        """One attempt of a transactional step; None: it was not begun. The transaction's connection
        is cut when the handler outlives its time."""
        await self._lease.fresh()
        if clock() > held.begin_before:
            return None
        try:
            command = held.to_command(self._resources, self._memory)
            arguments = held.arguments(command)
        except Exception as error:  # noqa: BLE001 - the stored input is not what the model accepts
            return Attempt.unbegun(held, error)
        span = self._begin_span([held], [command])
        attempt = None
        try:
            watched, failure, value = await self._run_in(tx, [held], *arguments, span=span)
            outcome = failure or keep(held.runnable, value, self._lease)
            attempt = _to_attempt(held, watched, outcome, command)
        finally:
            self._end_span(span, None if attempt is None else [attempt])
        return attempt

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
                commands.append(held.to_command(self._resources, self._memory))
            except Exception as error:  # noqa: BLE001 - the stored input is not what the model accepts
                attempts[place] = Attempt.unbegun(held, error)
            else:
                places.append(place)
        if not places:
            return attempts
        runnable = group[0].runnable
        called = [group[place] for place in places]
        span = self._begin_span(called, commands)
        ended = None
        try:
            watched, failure, value = await self._run_in(tx, called, commands, span=span)
            if failure is not None:
                outcomes = [(failure, False)] * len(places)
            else:
                outcomes = self._outcomes(runnable, value, len(places))
            ended = []
            for held, command, (outcome, wrote_nothing) in zip(
                called, commands, outcomes, strict=True
            ):
                attempt = _to_attempt(held, watched, outcome, command)
                attempt.wrote_nothing = wrote_nothing
                ended.append(attempt)
        finally:
            self._end_span(span, ended)
        for place, attempt in zip(places, ended, strict=True):
            attempts[place] = attempt
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
        arguments = attempt = None
        command: Command[Any] | None = None
        if began <= held.begin_before:
            try:
                command = held.to_command(self._resources, self._memory)
                arguments = held.arguments(command)
            except Exception as error:  # noqa: BLE001 - the stored input is not what the model accepts
                attempt = Attempt.unbegun(held, error)
        if arguments is None:
            if not runnable.is_async:
                self.threads.give_back()
            then(held, attempt)
            return

        assert command is not None
        span = self._begin_span([held], [command])

        def ended(watched: Watched, failure: Outcome | None, value: Any) -> None:
            if watched.is_left_behind and watched.future is not None and not runnable.is_async:
                self.threads.leave_behind(watched.future)
            outcome = failure or keep(runnable, value, self._lease)
            attempt = _to_attempt(held, watched, outcome, command)
            self._end_span(span, [attempt])
            then(held, attempt)

        watched = Watched(began, runnable.timeout, ended)
        self._watch.add(watched)
        context = None if span is None else span.context
        if runnable.is_async:
            run = self._run(watched, (held,), *arguments)
            watched.future = asyncio.Task(run, loop=self._loop, context=context)
        else:
            self._run_in_thread(watched, held, arguments, context)

    def _begin_span(
        self, group: Sequence[HeldCommand], commands: Sequence[Command[Any]]
    ) -> CallSpan | None:
        if self._tracer is None:
            return None
        try:
            span = self._tracer.begin(group)
        except Exception as error:  # noqa: BLE001 - of the user's span processors
            self._tell_trace_failed(error)
            return None
        for command, carrier in zip(commands, span.carriers, strict=True):
            command.trace_context = carrier
        return span

    def _end_span(self, span: CallSpan | None, attempts: Sequence[Attempt] | None) -> None:
        if span is None:
            return
        try:
            span.end(attempts)
        except Exception as error:  # noqa: BLE001 - of the user's span processors
            self._tell_trace_failed(error)

    def _tell_trace_failed(self, error: Exception) -> None:
        """What fails to be observed is done all the same."""
        self._telemetry.emit("trace_failed", "warning", error=repr(error))

    async def _run(self, watched: Watched, group: Sequence[HeldCommand], *arguments: Any) -> None:
        """Calls an async handler, and says what it came to."""
        failure: Outcome | None = None
        value = None
        runnable = group[0].runnable
        watched.has_begun = True
        try:
            value = await runnable.handler(*arguments)
        except asyncio.CancelledError:
            failure = watched.interrupted()
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is its outcome
            if watched.why == "shutdown":
                failure = watched.interrupted()
            else:
                failure = from_exception(_contained(error), runnable.retry)
        if self._watch.end(watched):
            self._say(watched, failure, value)
        else:
            self._refuse_late(group, failure)

    def _run_in_thread(
        self,
        watched: Watched,
        held: HeldCommand,
        arguments: tuple[Any, ...],
        context: contextvars.Context | None,
    ) -> None:
        """Calls a plain handler in the thread reserved for it, and says what it came to."""
        handler, retry = held.runnable.handler, held.runnable.retry

        def call(arguments: tuple[Any, ...]) -> Any:
            try:
                if context is None:
                    return handler(*arguments)
                return context.run(handler, *arguments)
            except (SystemExit, StopIteration) as error:
                raise _contained(error) from error

        def done(future: asyncio.Future[Any]) -> None:
            error = None if future.cancelled() else future.exception()
            failure = None if error is None else from_exception(error, retry)
            if self._watch.end(watched):
                value = None if failure is not None else future.result()
                self._say(watched, failure, value)
            else:
                self._refuse_late([held], failure)

        watched.future = self.threads.run(call, arguments)
        watched.future.add_done_callback(done)

    async def _run_in(
        self,
        tx: Connection,
        group: Sequence[HeldCommand],
        *arguments: Any,
        span: CallSpan | None = None,
    ) -> tuple[Watched, Outcome | None, Any]:
        """Runs a transactional handler to its end; when it is cancelled itself, it ends the handler
        first. Cuts the connection of a handler that is left behind."""
        waiting: asyncio.Future[tuple[Outcome | None, Any]] = self._loop.create_future()

        def ended(_: Watched, failure: Outcome | None, value: Any) -> None:
            if not waiting.done():
                waiting.set_result((failure, value))

        watched = Watched(clock(), group[0].runnable.timeout, ended)
        self._watch.add(watched)
        run = self._run(watched, group, *arguments, tx)
        context = None if span is None else span.context
        watched.future = asyncio.Task(run, loop=self._loop, context=context)
        try:
            failure, value = await waiting
        except asyncio.CancelledError:
            waiting = self._loop.create_future()
            if not watched.future.done():
                self._watch.stop(watched, "dropped")
                await waiting
            if watched.is_left_behind:
                cut(tx)
            raise
        if watched.is_left_behind:
            cut(tx)
        return watched, failure, value

    def _say(self, watched: Watched, failure: Outcome | None, value: Any) -> None:
        try:
            watched.ended(watched, failure, value)
        except Exception as error:  # noqa: BLE001 - nobody waits for this task, nobody would see it
            self._telemetry.emit("internal_error", "error", error=repr(error), exc_info=error)

    def _refuse_late(self, group: Sequence[HeldCommand], failure: Outcome | None) -> None:
        """Tells of the end of a handler that was left behind."""
        error = failure.error["message"] if isinstance(failure, Failure) else None
        for held in group:
            self._telemetry.emit("late_result_refused", "warning", **held.fields, error=error)

    def _outcomes(
        self, runnable: Runnable, given: object, count: int
    ) -> list[tuple[Outcome, bool]]:
        """What one call for ``count`` commands came to, for each of them; and whether the handler
        says that it has written nothing for it."""
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
            else (keep(runnable, value, self._lease), False)
            for value in given
        ]


def _to_attempt(
    held: HeldCommand, watched: Watched, outcome: Outcome, command: Command[Any] | None
) -> Attempt:
    ended = clock()
    took = ended - watched.began
    if type(outcome) is Done:
        attempt = Attempt(held, outcome, took, 0.0, ended)
        if command is not None:
            attempt.events = events_json(command)
        return attempt
    return Attempt(held, outcome, took, max(0.0, watched.timeout - took), ended)


def _contained(error: BaseException) -> BaseException:
    if isinstance(error, SystemExit):
        return HandlerExitedError(f"the handler called sys.exit({error.code!r})")
    if isinstance(error, StopIteration):  # which no future takes
        return RuntimeError("the handler raised StopIteration")
    return error

"""An executed attempt, and how the database is told of it."""

from __future__ import annotations

import inspect
import re
from dataclasses import replace
from datetime import timedelta
from typing import Any, assert_never

import orjson

from outbox.definition.outcomes import (
    Branched,
    Chosen,
    Decision,
    Done,
    Failure,
    Happened,
    InDoubt,
    NotDone,
    Outcome,
    Refused,
    Retried,
    Skipped,
    Suspended,
    Unknown,
    Waiting,
    describe,
    from_exception,
    has_nul,
    storable,
)
from outbox.definition.step import Runnable
from outbox.engine.clock import clock
from outbox.engine.hand import HeldCommand
from outbox.engine.lease import Lease
from outbox.store.functions import Report

_UNEXPECTED = re.compile(r"UnexpectedValue\((.*)\)")


class Attempt:
    """What an attempt came to, how long it took, how long its effect may still be under way, and
    when it ended, by ``clock()``; in seconds. ``wrote_nothing``: of a transactional attempt that is
    not done: there is nothing to be rolled back. ``events``: what it emitted, as JSON, if it is
    done."""

    __slots__ = ("doubt_for", "ended", "events", "held", "outcome", "took", "wrote_nothing")

    def __init__(
        self,
        held: HeldCommand,
        outcome: Outcome,
        took: float,
        doubt_for: float,
        ended: float,
        wrote_nothing: bool = False,
    ) -> None:
        self.held = held
        self.outcome = outcome
        self.took = took
        self.doubt_for = doubt_for
        self.ended = ended
        self.wrote_nothing = wrote_nothing
        self.events: bytes | None = None

    @classmethod
    def failed(cls, held: HeldCommand, error: dict[str, Any]) -> Attempt:
        """A failed attempt of a transactional command, which has had no effect: its transaction was
        undone."""
        return cls(held, Retried(error), took=0.0, doubt_for=0.0, ended=clock())

    @classmethod
    def unbegun(cls, held: HeldCommand, error: Exception) -> Attempt:
        """An attempt that failed before its handler was called, so that it has had no effect."""
        outcome = from_exception(error, held.runnable.retry)
        if isinstance(outcome, Retried):
            outcome = replace(outcome, no_effect=True)
        return cls(held, outcome, 0.0, 0.0, clock(), wrote_nothing=True)

    def replaced(self, outcome: Outcome) -> Attempt:
        """The same attempt with another outcome."""
        return Attempt(self.held, outcome, self.took, self.doubt_for, self.ended)

    def rolled_back(self) -> Attempt:
        """The same attempt, its writes undone: it has had no effect, so nothing is in doubt."""
        outcome = self.outcome
        return self.replaced(Retried(outcome.error)) if isinstance(outcome, InDoubt) else self

    @property
    def is_clean(self) -> bool:
        """Whether the transaction that it ran in may be committed."""
        return self.wrote_nothing or isinstance(self.outcome, Done)

    @property
    def error(self) -> dict[str, Any] | None:
        """What went wrong, or None."""
        return self.outcome.error if isinstance(self.outcome, Failure) else None

    @property
    def traceback(self) -> str | None:
        """Where an exception that nobody expected comes from, or None."""
        return self.outcome.traceback if isinstance(self.outcome, Retried) else None

    def to_report(self) -> Report:
        """The outcome as the database is told it."""
        held, outcome = self.held, self.outcome
        if isinstance(outcome, Decision):
            return self._decided(outcome)
        if isinstance(outcome, Done):
            goes_on = held.kind == "action"
            return Report(
                held.command,
                held.fence,
                "done",
                outcome.result,
                self.took,
                goes_on=goes_on,
                events=self.events,
            )
        report = Report(
            held.command,
            held.fence,
            "retry",
            took=self.took,
            error=orjson.dumps(outcome.error).decode(),
            doubt_for=timedelta(seconds=self.doubt_for),
        )
        match outcome:
            case Refused():
                report.outcome = "rejected"
            case Retried(no_effect=no_effect, give_up=give_up, after=after):
                report.no_effect, report.give_up = no_effect, give_up
                report.after = None if after is None else timedelta(seconds=after)
            case InDoubt(counted=counted):
                report.outcome, report.counted = "in_doubt", counted
            case Suspended():
                report.outcome = "suspended"
            case _:
                assert_never(outcome)
        return report

    def _decided(self, outcome: Decision) -> Report:
        """What was decided about a command without running it."""
        report = Report(self.held.command, self.held.fence, "", took=self.took)
        match outcome:
            case Skipped():
                report.outcome = "skipped"
            case Chosen(place=place):
                report.outcome, report.result = "chosen", orjson.dumps(place)
            case Branched(elements=elements):
                report.outcome, report.result = "branched", elements
            case Waiting(plan=plan):
                report.outcome, report.result = "waiting", plan
            case _:
                assert_never(outcome)
        return report


def keep(runnable: Runnable, value: object, limits: Lease) -> Outcome:
    """A handler's result as JSON, or a failed attempt when it cannot be stored; of a reconcile,
    what it answers."""
    if runnable.asks_for is not None:
        match value:
            case Happened(result=found):
                return keep(runnable.asks_for, found, limits)
            case NotDone(reason=reason):
                return Refused({"type": "NotDone", "message": storable(reason)})
            case Unknown(reason=reason):
                return Retried({"type": "Unknown", "message": storable(reason)}, give_up=True)
            case _:
                message = f"a reconcile returns Happened, NotDone or Unknown, not {_shown(value)}"
                return Retried({"type": "NoAnswer", "message": storable(message)}, give_up=True)
    if value is None:
        return Done(None)
    if isinstance(value, BaseException):
        name = type(value).__name__
        return _not_storable(f"the handler returned {name}, which is to be raised: raise {name}(…)")
    if inspect.iscoroutine(value):
        value.close()
        return _not_storable("the handler is a plain function, and returned a coroutine: "
                             "make it `async def`, and await what it calls")  # fmt: skip
    try:
        result = runnable.dump_result(value)
    except Exception as error:  # noqa: BLE001 - pydantic calls the user's serializers
        return _not_storable(_why(describe(error)["message"]))
    return _problem(result, limits) or Done(result)


def _shown(value: object) -> str:
    try:
        return f"{value!r:.80}"
    except Exception:  # noqa: BLE001 - it cannot even say what it is; its type then has to do
        return f"some {type(value).__name__}"


def checked(outcome: Branched, limits: Lease) -> Outcome:
    """The same, or a failed attempt when its elements cannot be stored."""
    assert outcome.elements is not None, "a group of branches has no elements"
    return _problem(outcome.elements, limits) or outcome


def _problem(result: bytes, limits: Lease) -> Retried | None:
    if len(result) > limits.max_result_bytes:
        return _not_storable(
            f"the result has {len(result)} bytes, the limit is {limits.max_result_bytes} "
            "(setting.max_result_bytes)"
        )
    if has_nul(result):
        return _not_storable("the result contains a NUL character")
    return None


def _why(problem: str) -> str:
    """What a serializer's complaint means to the author of a handler."""
    unexpected = _UNEXPECTED.findall(problem)
    if not unexpected:
        return f"the result has no JSON form: {problem}"
    said = "; ".join(unexpected).replace(" - serialized value may not be as expected", "")
    return f"the handler does not return what its annotation says: {said}"


def _not_storable(message: str) -> Retried:
    return Retried({"type": "ResultNotStorable", "message": message})

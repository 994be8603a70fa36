"""What a saga does beside running handlers: it sleeps, waits for signals and for other sagas,
chooses, and branches. Each is a step of its own, which the worker decides without a handler."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

import orjson
from pydantic import BaseModel, TypeAdapter

from outbox.definition.node import Node
from outbox.definition.outcomes import (
    Branched,
    Chosen,
    Decision,
    Done,
    Outcome,
    Refused,
    Retried,
    Skipped,
    Suspended,
    Waiting,
    describe,
)
from outbox.definition.retry import Retry
from outbox.errors import DefinitionError

if TYPE_CHECKING:
    from outbox.definition.command import Command
    from outbox.definition.saga import Saga
    from outbox.definition.step import Runnable

I = TypeVar("I")  # noqa: E741 - the input's type, as everywhere in this package
R = TypeVar("R")

OnTimeout = Literal["fail", "continue", "suspend"]
Arrived = Mapping[str, Any]
"""What a command was waiting for, as the SQL function ``arrived`` describes it."""


class Built(Node[I], ABC):
    """A step without a handler."""

    transactional = False
    bulk = False
    is_async = True
    decides = True

    def __init__(
        self,
        name: str,
        owner: str,
        state: str | None = None,
        when: Callable[[Command[I]], Any] | None = None,
    ) -> None:
        super().__init__(name, owner, state, when)
        self.retry = Retry()
        self.timeout = 60.0

    def decide(self, command: Command[I], awaits: str | None, arrived: Arrived | None) -> Outcome:
        """What becomes of a command of this step. Whatever a function of the user's raises is
        raised.

        Args:
            awaits: what the command has been waiting for, if it has.
            arrived: what has come of that; None: nothing in time.
        """
        if awaits is None and self.when is not None and not self.when(command):
            return Skipped()
        return self._decide(command, awaits, arrived)

    @abstractmethod
    def _decide(
        self, command: Command[I], awaits: str | None, arrived: Arrived | None
    ) -> Outcome: ...


class Sleep(Built[I]):
    """Waits for some time, or until an instant."""

    does = "sleep"

    def __init__(
        self,
        name: str,
        owner: str,
        duration: timedelta | datetime | Callable[[Command[I]], timedelta | datetime],
        when: Callable[[Command[I]], Any] | None,
    ) -> None:
        super().__init__(name, owner, None, when)
        self.duration = duration
        if not callable(duration):
            _check_duration(owner, duration)

    @property
    def predicates(self) -> list[Callable[[Command[I]], Any]]:
        return super().predicates + ([self.duration] if callable(self.duration) else [])

    def _decide(self, command: Command[I], awaits: str | None, arrived: Arrived | None) -> Outcome:
        if awaits is not None:
            return Done(None)
        duration = self.duration(command) if callable(self.duration) else self.duration
        _check_duration(self.owner, duration)
        return _wait("time", **_until(duration))


class Wait(Built[I], Generic[I, R]):
    """Waits for a signal. Made by ``Saga.wait_for``."""

    does = "signal"

    def __init__(
        self,
        name: str,
        owner: str,
        *,
        signal: str,
        result: type[R] | None,
        timeout: timedelta | None,
        on_timeout: OnTimeout,
        state: str | None,
        when: Callable[[Command[I]], Any] | None,
    ) -> None:
        super().__init__(name, owner, state, when)
        self.signal = signal
        self.patience = timeout
        self.on_timeout = on_timeout
        self._adapter: TypeAdapter[Any] = TypeAdapter(Any if result is None else result)
        if timeout is not None:
            _check_duration(owner, timeout)
        if on_timeout not in ("fail", "continue", "suspend"):
            raise DefinitionError(
                f"{owner}: on_timeout={on_timeout!r} is neither 'fail' nor 'continue' nor 'suspend'"
            )

    def load_result(self, value: object) -> R:
        """A stored payload; after a timeout that is passed over there is none."""
        return cast(R, None if value is None else self._adapter.validate_python(value))

    def check(self, payload: object) -> bytes:
        """A payload as JSON in UTF-8.

        Raises:
            ValueError: it is not what this step waits for.
        """
        value = self._adapter.validate_python(payload)
        return self._adapter.dump_json(value, by_alias=True)

    def _decide(self, command: Command[I], awaits: str | None, arrived: Arrived | None) -> Outcome:
        if awaits is None:
            return _wait("signal", **({} if self.patience is None else _until(self.patience)))
        if arrived is None:
            error = {
                "type": "SignalTimeout",
                "message": f'no signal "{self.signal}" came within {self.patience}',
            }
            match self.on_timeout:
                case "continue":
                    return Done(None)
                case "suspend":
                    return Suspended(error)
                case _:
                    return Refused(error)
        payload = arrived["payload"]
        try:
            self.load_result(payload)
        except Exception as error:  # noqa: BLE001 - also of the user's own validators
            message = (
                f'the payload of signal "{self.signal}" is not what is waited for: '
                f"{describe(error)['message']}"
            )
            return Suspended({"type": "SignalNotValid", "message": message})
        return Done(None if payload is None else orjson.dumps(payload))


class SubSaga(Built[I], Generic[I, R]):
    """Starts another saga and waits for its end. Made by ``Saga.run``."""

    does = "saga"

    def __init__(
        self,
        name: str,
        owner: str,
        saga: Saga[Any],
        *,
        input: Callable[[Command[I]], Any],
        result: type[R] | None,
        state: str | None,
        when: Callable[[Command[I]], Any] | None,
        undo: Runnable | None,
        nothing_to_undo: str | None,
    ) -> None:
        super().__init__(name, owner, state, when)
        self.saga = saga
        self.input = input
        self.undo = undo
        self.nothing_to_undo = nothing_to_undo
        self._adapter: TypeAdapter[Any] = TypeAdapter(Any if result is None else result)

    @property
    def predicates(self) -> list[Callable[[Command[I]], Any]]:
        return [*super().predicates, self.input]

    def load_result(self, value: object) -> R:
        """The stored output of the saga."""
        return cast(R, None if value is None else self._adapter.validate_python(value))

    def _decide(self, command: Command[I], awaits: str | None, arrived: Arrived | None) -> Outcome:
        if command.kind == "compensation":
            return self._undone(awaits, arrived)
        if awaits is None:
            given = self.saga.input.model_validate(self.input(command))
            json = given.model_dump_json(exclude_unset=True, by_alias=True, round_trip=True)
            return _wait(
                "saga",
                type=self.saga.type,
                version=self.saga.version,
                key=command.idempotency_key,
                input=orjson.loads(json),
            )
        assert arrived is not None, "a sub-saga that was started exists"
        match arrived["status"]:
            case "COMPLETED":
                output = arrived["output"]
                return Done(None if output is None else orjson.dumps(output))
            case "FAILED":
                error = arrived["error"] or {}
                return Refused({
                    "type": "SubSagaFailed",
                    "message": f"saga {arrived['saga_id']} ({self.saga.type}) failed: "
                    f"{error.get('type')}: {error.get('message', '')}",
                    **({"code": error["code"]} if "code" in error else {}),
                })  # fmt: skip
            case _:
                return _wait("saga")

    def _undone(self, awaits: str | None, arrived: Arrived | None) -> Outcome:
        if awaits is None:
            return _wait("saga")
        match arrived["status"] if arrived is not None else "FAILED":
            case "FAILED":
                return Done(None)
            case "COMPLETED":
                message = "the sub-saga was to be undone, and was closed as completed instead"
                return Retried({"type": "SubSagaCompleted", "message": message}, give_up=True)
            case _:
                return _wait("saga")


class Parallel(Built[I]):
    """Runs branches side by side, and is done when all of them are."""

    does = "parallel"

    def __init__(self, name: str, owner: str, state: str | None) -> None:
        super().__init__(name, owner, state)
        self.branches: list[list[Node[I]]] = []

    def _decide(self, command: Command[I], awaits: str | None, arrived: Arrived | None) -> Outcome:
        return Branched(None)


class Choice(Built[I]):
    """Goes on with the first alternative whose condition holds."""

    does = "choice"

    def __init__(self, name: str, owner: str) -> None:
        super().__init__(name, owner)
        self.alternatives: list[tuple[Callable[[Command[I]], Any] | None, list[Node[I]]]] = []

    @property
    def predicates(self) -> list[Callable[[Command[I]], Any]]:
        return [condition for condition, _ in self.alternatives if condition is not None]

    def _decide(self, command: Command[I], awaits: str | None, arrived: Arrived | None) -> Outcome:
        for place, (condition, _) in enumerate(self.alternatives):
            if condition is None or condition(command):
                return Chosen(place)
        return Chosen(None)


def elements_of(owner: str, found: object) -> Decision:
    """What a step that runs once for each element does first."""
    if not isinstance(found, list | tuple):
        raise TypeError(f"{owner}: each=… gave {type(found).__name__}, not a list of elements")
    return Branched(orjson.dumps(list(found), default=_plain))


def _plain(value: object) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    raise TypeError(f"an element of type {type(value).__name__} cannot be stored as JSON")


def _wait(what: str, **more: Any) -> Waiting:
    return Waiting(orjson.dumps({"await": what, **more}))


def _until(duration: timedelta | datetime) -> dict[str, Any]:
    if isinstance(duration, datetime):
        return {"until": duration.isoformat()}
    return {"seconds": duration.total_seconds()}


def _check_duration(owner: str, duration: object) -> None:
    if isinstance(duration, datetime):
        if duration.tzinfo is None:
            raise DefinitionError(f"{owner}: {duration!r} has no time zone")
    elif not isinstance(duration, timedelta):
        raise DefinitionError(f"{owner}: {duration!r} is neither a timedelta nor a datetime")
    elif duration <= timedelta():
        raise DefinitionError(f"{owner}: {duration} is not a positive time")

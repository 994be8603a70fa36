"""What a handler is given."""

from __future__ import annotations

import asyncio
import builtins
import hashlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeVar, overload
from urllib.parse import quote
from uuid import UUID

import orjson
from pydantic import TypeAdapter
from pydantic_core import to_json

from outbox.definition.event import check_event_name
from outbox.definition.outcomes import has_nul

I_co = TypeVar("I_co", covariant=True)
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")

Kind = Literal["action", "compensation", "reconcile"]

# Stripe's limit, the shortest of the well-known providers'.
_KEY_LIMIT = 255
_NAME_LIMIT = 200
_PAYLOAD_LIMIT = 262_144
_MOST_EVENTS = 1000


def idempotency_key(
    type_: str, key: str, step: str, *, undo: bool, revision: int, element: int | None = None
) -> str:
    """The key under which a provider sees a step:
    ``<type>/<saga key>/<step>[/<element>][/undo][#revision]``.

    The parts are percent-escaped, so that no two sagas share a key; beyond 255 characters the
    saga's key is replaced by its SHA-256, and if that does not do, the whole by its own. A hash
    follows a ``=``, which no escaped part contains.
    """
    tail = (
        f"/{quote(step, safe='')}"
        + ("" if element is None else f"/{element}")
        + ("/undo" if undo else "")
        + (f"#{revision}" * bool(revision))
    )
    head = quote(type_, safe="")
    whole = f"{head}/{quote(key, safe='')}{tail}"
    if len(whole) <= _KEY_LIMIT:
        return whole
    hashed = f"{head}/={hashlib.sha256(key.encode()).hexdigest()}{tail}"
    if len(hashed) <= _KEY_LIMIT:
        return hashed
    return f"={hashlib.sha256(whole.encode()).hexdigest()}"


class HasResults(Protocol[R_co]):
    """A step that runs for each of some elements, as far as its results go."""

    @property
    def name(self) -> str: ...

    def load_results(self, value: dict[int, object], count: int) -> Sequence[R_co | None]: ...


class HasResult(Protocol[R_co]):
    """A step, as far as its result goes."""

    @property
    def name(self) -> str: ...

    def load_result(self, value: object) -> R_co: ...


class Memory(Protocol):
    """Where ``Command.once`` keeps results: the engine's, for one attempt."""

    loop: asyncio.AbstractEventLoop

    async def recall(self, name: str) -> bytes | None:
        """What an earlier attempt of the command remembered, as JSON; None: nothing."""

    async def remember(self, name: str, result: bytes) -> bytes:
        """Keeps a result, as JSON; what is kept, which another may have been quicker to say."""


# Not frozen, which would double the time that it takes to make one.
@dataclass(slots=True)
class Command(Generic[I_co]):
    """One attempt of a step, as its handler sees it.

    Attributes:
        saga_id: the saga's id.
        type: the saga's type.
        version: the version of the type that this saga runs.
        key: the idempotency key that the saga was started with.
        step: the step's name; of a compensation, the name of the step that it undoes.
        kind: ``"action"``, ``"compensation"`` or ``"reconcile"``.
        input: the saga's input, an instance of its model.
        attempt: which attempt of this command this is, from 1.
        in_doubt: an earlier attempt's effect is unknown; of a compensation: it is not known whether
            what it undoes has happened.
        error: of a compensation: what went wrong, as ``{"type": …, "message": …}``.
        revision: how often the idempotency key was changed, each time because an attempt was known
            to have had no effect.
        element: the place of the element, from 0, of a step that runs for each of some.
        trace_context: the attempt's W3C trace context, as headers for what the handler calls; empty
            where the worker does not trace (``OUTBOX_TRACING``).
    """

    saga_id: UUID
    type: str
    version: int
    key: str
    step: str
    kind: Kind
    input: I_co
    attempt: int
    in_doubt: bool = False
    error: Mapping[str, Any] | None = None
    revision: int = 0
    element: int | None = None
    _results: Mapping[str, Any] = field(default_factory=dict, repr=False)
    _resources: Iterable[object] = field(default=(), repr=False)
    _memory: Callable[[], Memory] | None = field(default=None, repr=False)
    _events: list[tuple[str, bytes]] | None = field(default=None, repr=False)
    trace_context: Mapping[str, str] = field(default_factory=dict)

    @property
    def idempotency_key(self) -> str:
        """The same in every attempt, for providers (at most 255 characters). Only a retry of an
        attempt that is known to have had no effect gets another."""
        return idempotency_key(
            self.type,
            self.key,
            self.step,
            undo=self.kind == "compensation",
            revision=self.revision,
            element=self.element,
        )

    def result(self, step: HasResult[R]) -> R:
        """The result of an earlier step.

        Raises:
            LookupError: that step has no result in this saga: it was not done.
        """
        name = self._name_of(step)
        if name not in self._results:
            raise LookupError(
                f'step "{name}" has no result in saga {self.saga_id}: it was not done'
            )
        return step.load_result(parsed(self._results[name]))

    def find_result(self, step: HasResult[R]) -> R | None:
        """The result of an earlier step, or None when it was not done or is in doubt."""
        name = self._name_of(step)
        return step.load_result(parsed(self._results[name])) if name in self._results else None

    def _name_of(self, step: HasResult[Any]) -> str:
        """Under which name the results know a step's: of the step itself, that of its element."""
        if self.element is None or step.name != self.step:
            return step.name
        return f"{step.name}/{self.element}"

    def results(self, step: HasResults[R]) -> Sequence[R | None]:
        """The results of an earlier step that ran for each of some elements, in the order of the
        elements; None of those that were not done.

        Raises:
            LookupError: that step has not begun in this saga.
        """
        elements = self._results.get(f"{step.name}/")
        if elements is None:
            raise LookupError(f'step "{step.name}" has no elements in saga {self.saga_id}')
        count = len(parsed(elements))
        found = {
            n: parsed(self._results[f"{step.name}/{n}"])
            for n in range(count)
            if f"{step.name}/{n}" in self._results
        }
        return step.load_results(found, count)

    @overload
    async def once(self, name: str, effect: Callable[[], object]) -> Any: ...
    @overload
    async def once(
        self, name: str, effect: Callable[[], object], result: builtins.type[T]
    ) -> T: ...
    async def once(
        self,
        name: str,
        effect: Callable[[], object],
        result: builtins.type[Any] | None = None,
    ) -> Any:
        """The result of a sub-effect, which further attempts of this command need not repeat.

        Calls ``effect`` and remembers what it returns, committed at once; an attempt that finds a
        result under this name gets that instead. Dies the worker after the effect and before the
        commit, the effect is repeated: give its provider a key made from ``idempotency_key``.

        Args:
            name: of the sub-effect, unique within the handler; at most 200 characters.
            effect: a function or a coroutine function without arguments. Its result must have a
                JSON form.
            result: the type to read the remembered result as, such as a pydantic model; without
                it, whatever its JSON says.

        Raises:
            WorkerLostError: this worker was taken for dead, and the command is another's.
            InputError: the result is larger than ``setting.max_result_bytes``.
            RuntimeError: in a transactional step, whose writes are done once anyway.
        """
        if (memory := self._find_memory(name)) is None:
            return _read(_to_json(name, await _called(effect)), result)
        kept = await memory.recall(name)
        if kept is None:
            kept = await memory.remember(name, _to_json(name, await _called(effect)))
        return _read(kept, result)

    @overload
    def once_now(self, name: str, effect: Callable[[], object]) -> Any: ...
    @overload
    def once_now(self, name: str, effect: Callable[[], object], result: builtins.type[T]) -> T: ...
    def once_now(
        self, name: str, effect: Callable[[], Any], result: builtins.type[Any] | None = None
    ) -> Any:
        """What ``once`` is to a coroutine, for handlers that are plain functions."""
        if (memory := self._find_memory(name)) is None:
            return _read(_to_json(name, effect()), result)
        if _is_on(memory.loop):
            raise RuntimeError("once_now() would block the worker here: use await cmd.once(…)")

        kept = asyncio.run_coroutine_threadsafe(_recall(memory, name), memory.loop).result()
        if kept is None:
            found = _to_json(name, effect())
            waiting = asyncio.run_coroutine_threadsafe(_remember(memory, name, found), memory.loop)
            kept = waiting.result()
        return _read(kept, result)

    def _find_memory(self, name: str) -> Memory | None:
        """Where to remember; a command that was made without an engine, as tests make them,
        remembers nothing."""
        if not 1 <= len(name) <= _NAME_LIMIT:
            raise ValueError(f"the name of what is done once has 1 to {_NAME_LIMIT} characters")
        return None if self._memory is None else self._memory()

    def emit(self, name: str, payload: object = None) -> None:
        """Tells the world of something, if and when this attempt is done: the event is stored in
        the commit of its transition, and delivered to whoever has subscribed to its name.

        Args:
            name: dotted, such as ``payment.authorized``; ``alert.…`` is the engine's own.
            payload: whatever has a JSON form, such as a dict or a pydantic model.

        Raises:
            ValueError: the name is none, or the payload has no JSON form or too large a one.
        """
        check_event_name(name)
        told = _to_json(name, payload)
        if len(told) > _PAYLOAD_LIMIT:
            raise ValueError(
                f'the payload of event "{name}" has {len(told)} bytes, the limit is '
                f"{_PAYLOAD_LIMIT}"
            )
        if self._events is None:
            self._events = []
        if len(self._events) >= _MOST_EVENTS:
            raise ValueError(f"an attempt emits at most {_MOST_EVENTS} events")
        self._events.append((name, told))

    @property
    def emitted(self) -> list[tuple[str, Any]]:
        """The events that this attempt has emitted so far: (name, payload as JSON has it)."""
        return [(name, orjson.loads(payload)) for name, payload in self._events or ()]

    def resource(self, kind: builtins.type[T]) -> T:
        """The object of this class that the app's lifespan set up for the worker.

        Raises:
            LookupError: the lifespan yielded none.
        """
        for candidate in self._resources:
            if isinstance(candidate, kind):
                return candidate
        raise LookupError(f"the app's lifespan yields no {kind.__name__}")


def parsed(result: object) -> Any:
    """A stored result; what this worker has stored itself is still JSON."""
    return orjson.loads(result) if isinstance(result, bytes) else result


def events_json(command: Command[Any]) -> bytes | None:
    """What a command's attempt has emitted, as the database is told it; None: nothing."""
    events = command._events
    if not events:
        return None
    told = [b'{"name":"%s","payload":%s}' % (name.encode(), payload) for name, payload in events]
    return b"[" + b",".join(told) + b"]"


async def _called(effect: Callable[[], Any]) -> Any:
    found = effect()
    return await found if inspect.isawaitable(found) else found


async def _recall(memory: Memory, name: str) -> bytes | None:
    return await memory.recall(name)


async def _remember(memory: Memory, name: str, result: bytes) -> bytes:
    return await memory.remember(name, result)


def _is_on(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _to_json(name: str, value: object) -> bytes:
    try:
        found = to_json(value)
    except Exception as error:
        raise ValueError(f'what "{name}" says has no JSON form: {error}') from error
    if has_nul(found):
        raise ValueError(f'what "{name}" says contains a NUL character')
    return found


def _read(kept: bytes, result: builtins.type[Any] | None) -> Any:
    if result is None:
        return orjson.loads(kept)
    return TypeAdapter(result).validate_json(kept)

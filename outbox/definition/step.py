"""Steps: an action and, perhaps, its compensation and its reconcile; each a handler with its
policies."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from types import UnionType
from typing import Any, Generic, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import orjson
from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError

from outbox.definition.argument import (
    check_function,
    check_kind,
    check_parentheses,
    check_time,
)
from outbox.definition.flow import Arrived, elements_of
from outbox.definition.node import Node
from outbox.definition.outcomes import (
    Happened,
    NotDone,
    Outcome,
    Rejected,
    RetryAfter,
    Skipped,
    Unknown,
)
from outbox.definition.retry import Retry
from outbox.errors import DefinitionError

I = TypeVar("I")  # noqa: E741 - the input's type, as everywhere in this package
R = TypeVar("R")

Handler = Callable[..., Any]
_LONG_NUMBER = re.compile(rb"\d{19}")
_NOTHING: Any = TypeAdapter(Any)


class Runnable:
    """A handler with its policies: what a step's action, its compensation and its reconcile have in
    common.

    Attributes:
        asks_for: of a reconcile, the step that it asks after.
    """

    decides = False
    asks_for: Step[Any, Any] | None = None

    def __init__(
        self,
        handler: Handler,
        owner: str,
        retry: Retry,
        timeout: float,
        transactional: bool,
        bulk: bool,
        each: bool = False,
    ) -> None:
        self.handler = handler
        self.retry = retry
        self.timeout = timeout
        self.transactional = transactional
        self.bulk = bulk
        self.is_async = inspect.iscoroutinefunction(handler)
        if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
            raise DefinitionError(f"{owner}: its handler is a generator: return the result")
        check_kind(owner, "retry", retry, Retry, "a Retry, such as Retry(attempts=5)")
        check_kind(owner, "timeout", timeout, (int, float), "a number of seconds")
        if not (timeout > 0 and math.isfinite(timeout)):
            raise DefinitionError(f"{owner}: timeout={timeout} is not a positive number of seconds")
        if transactional and not self.is_async:
            raise DefinitionError(f"{owner} is transactional, so its handler must be `async def`")
        if bulk and not transactional:
            raise DefinitionError(f"{owner} is bulk, so it must be transactional=True as well")
        if bulk and each:
            raise DefinitionError(f"{owner} runs for each element, so it cannot be bulk")
        wanted = ["cmds" if bulk else "cmd", *["element"] * each, *["tx"] * transactional]
        required = [
            p
            for p in inspect.signature(handler).parameters.values()
            if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and p.default is p.empty
        ]
        if len(required) != len(wanted) or any(p.kind is p.KEYWORD_ONLY for p in required):
            raise DefinitionError(
                f"{owner}: its handler takes ({', '.join(wanted)}), "
                f"not ({', '.join(p.name for p in required)})"
            )
        self._adapter = _result_adapter(handler, owner, bulk)
        self._element = _element_adapter(handler, required[1].name) if each else None

    def dump_result(self, value: object) -> bytes:
        """A handler's result as JSON in UTF-8.

        Raises:
            ValueError: the value is not what the annotation says, or is not JSON-able.
        """
        # The adapter's own dump_json only adds arguments that are not used here.
        json: bytes = self._adapter.serializer.to_json(value, warnings="error")
        if _LONG_NUMBER.search(json):
            # orjson reads what is beyond 64 bits as a float, and refuses to write it.
            orjson.dumps(self._adapter.dump_python(value, mode="json", warnings="error"))
        return json

    def load_element(self, value: object) -> Any:
        """A stored element, validated against the annotation of the handler's second argument."""
        assert self._element is not None, "this step runs for no elements"
        return self._element.validate_python(value)

    def load(self, value: object) -> Any:
        """A stored result, validated against the handler's return annotation."""
        return None if value is None else self._adapter.validate_python(value)


def _result_adapter(handler: Handler, owner: str, bulk: bool) -> TypeAdapter[Any]:
    """What turns a handler's results into JSON and back, made from its return annotation; of a bulk
    handler, from that of its list's items."""
    try:
        hints = get_type_hints(handler)
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        raise DefinitionError(
            f"{owner}: its annotations do not resolve ({error}); "
            "define the types it names at module level"
        ) from error
    if "return" not in hints or _is_answer(hints["return"]):
        return cast(TypeAdapter[Any], _NOTHING)
    result = _item(hints["return"], owner) if bulk else hints["return"]
    try:
        return TypeAdapter(result)
    except PydanticUserError as error:
        raise DefinitionError(
            f"{owner}: a result of type {result!r} cannot be stored; return a pydantic model, a "
            "dataclass, or what JSON knows"
        ) from error


def _is_answer(annotation: Any) -> bool:
    """Whether this is what a reconcile returns, which is not stored."""
    kinds = get_args(annotation) or (annotation,)
    return any(kind in (Happened, NotDone, Unknown) for kind in kinds)


def _element_adapter(handler: Handler, argument: str) -> TypeAdapter[Any]:
    return TypeAdapter(get_type_hints(handler).get(argument, Any))


def _item(annotation: Any, owner: str) -> Any:
    """What a bulk handler returns for a command that is done."""
    if annotation in (list, Any):
        return Any
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin not in (list, Sequence) or len(arguments) != 1:
        raise DefinitionError(
            f"{owner} is bulk, so it returns a list with one result, Rejected or RetryAfter for "
            f"each command, not {annotation!r}"
        )
    (item,) = arguments
    if get_origin(item) not in (Union, UnionType):
        return item
    results = [kind for kind in get_args(item) if kind not in (Rejected, RetryAfter)]
    return Union[tuple(results)] if results else None  # noqa: UP007 - of what is known now


class Step(Runnable, Node[I], Generic[I, R]):
    """A named unit of a saga: its action and, perhaps, its compensation and its reconcile. Made by
    ``Saga.step``."""

    def __init__(
        self,
        name: str,
        handler: Handler,
        *,
        owner: str,
        state: str | None,
        retry: Retry,
        timeout: float,
        transactional: bool,
        bulk: bool,
        pivot: bool,
        nothing_to_undo: str | None,
        when: Callable[[Any], Any] | None,
        each: Callable[[Any], Any] | None,
        concurrency: int | None,
        best_effort: bool,
        key_age: timedelta | None,
    ) -> None:
        Node.__init__(self, name, owner, state, when)
        Runnable.__init__(
            self, handler, owner, retry, timeout, transactional, bulk, each=each is not None
        )
        self.pivot = pivot
        self.nothing_to_undo = nothing_to_undo
        self.each = each
        self.concurrency = concurrency
        self.best_effort = best_effort
        self.key_age = key_age
        check_function(owner, "each", each)
        if key_age is not None:
            check_time(owner, "key_age", key_age)
        self.decides = when is not None or each is not None

    @property
    def predicates(self) -> list[Callable[[Any], Any]]:
        return super().predicates + ([] if self.each is None else [self.each])

    def decide(self, command: Any, awaits: str | None, arrived: Arrived | None) -> Outcome | None:
        """What becomes of a command before its handler is called; None: it is to be called."""
        if self.when is not None and not self.when(command):
            return Skipped()
        return None if self.each is None else elements_of(self.owner, self.each(command))

    def load_results(self, value: dict[int, object], count: int) -> list[R | None]:
        """The stored results of the elements, in order; None of those that have none."""
        return [cast(R, self.load(value[n])) if n in value else None for n in range(count)]

    def load_result(self, value: object) -> R:
        """A stored result of this step's action."""
        return cast(R, self.load(value))

    def compensation(
        self,
        _without_parentheses: None = None,
        /,
        *,
        retry: Retry | None = None,
        timeout: float = 60.0,
        transactional: bool = False,
        bulk: bool = False,
    ) -> Callable[[Callable[..., Any]], Runnable]:
        """Declares how this step is undone.

        The handler may run when the step's effect is in doubt (it has no result then), and may run
        more than once: undoing what is undone, or what never happened, has to succeed.

        Args:
            retry: default 20 attempts; exhausted, the saga is suspended, never dropped.
            timeout: seconds an attempt may take.
            transactional: as for ``Saga.step``.
            bulk: as for ``Saga.step``.

        Raises:
            DefinitionError: the step has a compensation already, or says that it needs none.
        """

        check_parentheses(f"{self.name}.compensation", _without_parentheses)

        def declare(handler: Callable[..., Any]) -> Runnable:
            if self.undo is not None:
                raise DefinitionError(f"{self.owner} has two compensations")
            if self.nothing_to_undo is not None:
                raise DefinitionError(
                    f"{self.owner} has a compensation, and nothing_to_undo={self.nothing_to_undo!r}"
                )
            self.undo = Runnable(
                handler,
                f"the compensation of {self.owner}",
                retry or Retry(attempts=20),
                timeout,
                transactional,
                bulk,
                each=self.each is not None,
            )
            return self.undo

        return declare

    def reconcile(
        self,
        _without_parentheses: None = None,
        /,
        *,
        retry: Retry | None = None,
        timeout: float = 60.0,
    ) -> Callable[[Callable[..., Any]], Runnable]:
        """Declares how to find out whether this step has had its effect.

        It is asked whenever an attempt is left in doubt, after the attempt's deadline and a grace,
        and before the step is tried again or undone. The handler takes the command, under whose
        idempotency key the attempt was made, and returns ``Happened(result)``, ``NotDone()`` or
        ``Unknown()``, which suspends the saga.

        Args:
            retry: default 20 attempts; exhausted, it is as good as ``Unknown()``.
            timeout: seconds an attempt may take.

        Raises:
            DefinitionError: the step has a reconcile already, or is transactional, so that it is
                never in doubt.
        """

        check_parentheses(f"{self.name}.reconcile", _without_parentheses)

        def declare(handler: Callable[..., Any]) -> Runnable:
            if self.ask is not None:
                raise DefinitionError(f"{self.owner} has two reconciles")
            if self.transactional:
                raise DefinitionError(
                    f"{self.owner} is transactional, so it is never in doubt: it needs no reconcile"
                )
            self.ask = Runnable(
                handler,
                f"the reconcile of {self.owner}",
                retry or Retry(attempts=20),
                timeout,
                transactional=False,
                bulk=False,
                each=self.each is not None,
            )
            self.ask.asks_for = self
            return self.ask

        return declare

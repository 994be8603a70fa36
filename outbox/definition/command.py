"""What a handler is given."""

from __future__ import annotations

import builtins
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeVar
from urllib.parse import quote
from uuid import UUID

import orjson

I_co = TypeVar("I_co", covariant=True)
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")

Kind = Literal["action", "compensation", "reconcile"]

# Stripe's limit, the shortest of the well-known providers'.
_KEY_LIMIT = 255


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

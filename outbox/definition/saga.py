"""Saga types: ordered steps, and the model of their input."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, Protocol, TypeVar, cast, overload

from psycopg import AsyncConnection
from pydantic import BaseModel

from outbox.definition.command import Command
from outbox.definition.outcomes import Rejected, RetryAfter
from outbox.definition.retry import Retry
from outbox.definition.step import Step
from outbox.errors import DefinitionError

I = TypeVar("I")  # noqa: E741 - the input's type, as everywhere in this package
R = TypeVar("R")

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}")


class StepDecorator(Protocol[I]):
    """What ``Saga.step(…)`` returns: it makes a step of an async or plain handler, which takes the
    command and, of a transactional step, the transaction's connection."""

    @overload
    def __call__(self, handler: Callable[[Command[I]], Coroutine[Any, Any, R]]) -> Step[I, R]: ...
    @overload
    def __call__(
        self, handler: Callable[[Command[I], AsyncConnection[Any]], Coroutine[Any, Any, R]]
    ) -> Step[I, R]: ...
    @overload
    def __call__(
        self,
        handler: Callable[
            [Sequence[Command[I]], AsyncConnection[Any]],
            Coroutine[Any, Any, Sequence[R | Rejected | RetryAfter]],
        ],
    ) -> Step[I, R]: ...
    @overload
    def __call__(self, handler: Callable[[Command[I]], R]) -> Step[I, R]: ...


class Saga(Generic[I]):
    """A saga type, one version of it.

    Args:
        type: its name: letters, digits, ``_ . -``.
        input: the pydantic model of its input.
        version: raise it when the steps change; live sagas stay on the version they started with.

    Raises:
        DefinitionError: the name or the version is impossible.
    """

    def __init__(self, type: str, *, input: type[I], version: int = 1) -> None:
        if not _NAME.fullmatch(type):
            raise DefinitionError(
                f"saga type {type!r}: a name is a letter and up to 99 letters, digits, _ . or -"
            )
        if version < 1:
            raise DefinitionError(f'saga type "{type}": version={version} is not positive')
        if not (isinstance(input, builtin_type) and issubclass(input, BaseModel)):
            raise DefinitionError(f'saga type "{type}": input={input!r} is not a pydantic model')
        self.type = type
        self.version = version
        self.input = input
        self.steps: list[Step[I, Any]] = []

    def __repr__(self) -> str:
        return f"Saga({self.type!r}, version={self.version})"

    def step(
        self,
        *,
        name: str | None = None,
        state: str | None = None,
        retry: Retry | None = None,
        timeout: float = 60.0,
        transactional: bool = False,
        bulk: bool = False,
        pivot: bool = False,
        nothing_to_undo: str | None = None,
    ) -> StepDecorator[I]:
        """Adds the decorated handler as the next step.

        Args:
            name: default the function's name.
            state: the domain state that the saga is in once this step is done.
            retry: default ``Retry()``.
            timeout: seconds an attempt may take; then it is cancelled, and its effect is in doubt.
            transactional: the step only touches this database. Its handler gets a second argument,
                a connection inside the very transaction that commits the transition: exactly once.
                It may run more than once before that one commit, and must not commit itself.
            bulk: of a transactional step: its handler gets the commands of many sagas at once,
                ``async def post(cmds, tx)``, and returns a list with one item for each of them, in
                their order: its result, or a ``Rejected`` or ``RetryAfter`` for a command for which
                it has written nothing. What it raises fails the call: each half of its commands is
                tried by itself, until whoever is to blame is alone. ``timeout`` is the call's.
            pivot: once this step is done nothing is undone automatically.
            nothing_to_undo: why this step, though before the pivot, needs no compensation.

        Raises:
            DefinitionError: two steps have one name, two are pivots, or an argument is impossible.
        """

        def declare(handler: Callable[..., Any]) -> Step[I, Any]:
            step_name = name or handler.__name__
            owner = f'step "{step_name}" of saga type "{self.type}"'
            if not _NAME.fullmatch(step_name):
                raise DefinitionError(f"{owner}: not a name (letters, digits, _ . -)")
            if any(step_name == other.name for other in self.steps):
                raise DefinitionError(f'saga type "{self.type}" has two steps named "{step_name}"')
            if pivot and (first := next((s for s in self.steps if s.pivot), None)):
                raise DefinitionError(
                    f'saga type "{self.type}" has two pivots: "{first.name}" and "{step_name}"'
                )
            if nothing_to_undo is not None and not nothing_to_undo.strip():
                raise DefinitionError(f"{owner}: nothing_to_undo must say why")
            step: Step[I, Any] = Step(
                step_name,
                handler,
                owner=owner,
                state=state,
                retry=retry or Retry(),
                timeout=timeout,
                transactional=transactional,
                bulk=bulk,
                pivot=pivot,
                nothing_to_undo=nothing_to_undo,
            )
            self.steps.append(step)
            return step

        return cast(StepDecorator[I], declare)

    def check(self) -> None:
        """Refuses what can only be seen once all steps are declared.

        Raises:
            DefinitionError: there are no steps, or a step before the pivot neither has a
                compensation nor says why it needs none.
        """
        if not self.steps:
            raise DefinitionError(f'saga type "{self.type}" has no steps')
        for step in self.steps:
            if step.pivot:
                return
            if step.undo is None and step.nothing_to_undo is None:
                raise DefinitionError(
                    f"{step.owner} is before the pivot and cannot be undone: give it a "
                    f"compensation (@{step.name}.compensation()), or say nothing_to_undo='why'"
                )

    def find_step(self, name: str) -> Step[I, Any]:
        """The step of this name.

        Raises:
            LookupError: there is none.
        """
        for step in self.steps:
            if step.name == name:
                return step
        raise LookupError(f'saga type "{self.type}" version {self.version} has no step "{name}"')


# `type` is shadowed by an argument above.
builtin_type = type

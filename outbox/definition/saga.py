"""Saga types: their steps, in order or side by side, and the model of their input."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Coroutine, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar, cast, overload

import typing_extensions
from psycopg import AsyncConnection
from pydantic import BaseModel

from outbox.definition.argument import check_kind, check_parentheses, check_time
from outbox.definition.check import check_saga
from outbox.definition.command import Command
from outbox.definition.flow import Choice, OnTimeout, Parallel, Sleep, SubSaga, Wait
from outbox.definition.limit import Limit, Rate, check_limits
from outbox.definition.node import Node
from outbox.definition.outcomes import Rejected, RetryAfter
from outbox.definition.retry import Retry
from outbox.definition.step import Runnable, Step
from outbox.errors import DefinitionError

I = TypeVar("I")  # noqa: E741 - the input's type, as everywhere in this package
E = TypeVar("E")
R = TypeVar("R")
# What a result is that nobody has said the type of.
D = typing_extensions.TypeVar("D", default=Any)

_CONCURRENCY = 10
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}")


class StepDecorator(Protocol[I]):
    """What ``Saga.step(…)`` returns: it makes a step of an async or plain handler, which takes the
    command, of a step with ``each`` the element, and of a transactional one the transaction's
    connection."""

    @overload
    def __call__(self, handler: Callable[[Command[I]], Coroutine[Any, Any, R]]) -> Step[I, R]: ...
    @overload
    def __call__(
        self,
        handler: Callable[
            [Sequence[Command[I]], AsyncConnection[Any]],
            Coroutine[Any, Any, Sequence[R | Rejected | RetryAfter]],
        ],
    ) -> Step[I, R]: ...
    @overload
    def __call__(
        self, handler: Callable[[Command[I], E], Coroutine[Any, Any, R]]
    ) -> Step[I, R]: ...
    @overload
    def __call__(
        self, handler: Callable[[Command[I], E, AsyncConnection[Any]], Coroutine[Any, Any, R]]
    ) -> Step[I, R]: ...
    @overload
    def __call__(self, handler: Callable[[Command[I]], R]) -> Step[I, R]: ...
    @overload
    def __call__(self, handler: Callable[[Command[I], E], R]) -> Step[I, R]: ...


class Branches(Generic[I]):
    """What ``Saga.parallel`` gives: makes a branch of several steps."""

    def __init__(self, saga: Saga[I], node: Parallel[I]) -> None:
        self._saga = saga
        self._node = node

    @contextlib.contextmanager
    def branch(self) -> Iterator[None]:
        """The steps declared within run one after the other, beside the group's other branches."""
        line: list[Node[I]] = []
        self._node.branches.append(line)
        with self._saga._on(line):
            yield


class Alternatives(Generic[I]):
    """What ``Saga.choice`` gives: makes the alternatives, in the order in which they are tried."""

    def __init__(self, saga: Saga[I], node: Choice[I]) -> None:
        self._saga = saga
        self._node = node

    @contextlib.contextmanager
    def when(self, condition: Callable[[Command[I]], Any]) -> Iterator[None]:
        """The steps declared within run if no alternative before holds and this one does."""
        with self._alternative(condition):
            yield

    @contextlib.contextmanager
    def otherwise(self) -> Iterator[None]:
        """The steps declared within run if no alternative holds."""
        with self._alternative(None):
            yield

    @contextlib.contextmanager
    def _alternative(self, condition: Callable[[Command[I]], Any] | None) -> Iterator[None]:
        if any(known is None for known, _ in self._node.alternatives):
            raise DefinitionError(f"{self._node.owner}: nothing comes after otherwise()")
        line: list[Node[I]] = []
        self._node.alternatives.append((condition, line))
        with self._saga._on(line):
            yield


class Saga(Generic[I]):
    """A saga type, one version of it.

    Args:
        type: its name: letters, digits, ``_ . -``.
        input: the pydantic model of its input.
        version: raise it when the steps change; live sagas stay on the version they started with.
        deadline: a saga that has not ended so long after its start is undone, or suspended once its
            pivot is done.
        limits: how many of its sagas run at once, or begin in a period; what was set from SQL comes
            first.

    Raises:
        DefinitionError: the name, the version or a limit is impossible.
    """

    def __init__(
        self,
        type: str,
        *,
        input: type[I],
        version: int = 1,
        deadline: timedelta | None = None,
        limits: Sequence[Limit | Rate] = (),
    ) -> None:
        if not (isinstance(type, str) and _NAME.fullmatch(type)):
            raise DefinitionError(
                f"saga type {type!r}: a name is a letter and up to 99 letters, digits, _ . or -"
            )
        check_kind(f'saga type "{type}"', "version", version, int, "a whole number")
        if version < 1:
            raise DefinitionError(f'saga type "{type}": version={version} is not positive')
        if not (isinstance(input, builtin_type) and issubclass(input, BaseModel)):
            raise DefinitionError(f'saga type "{type}": input={input!r} is not a pydantic model')
        if deadline is not None:
            check_time(f'saga type "{type}"', "deadline", deadline)
        check_limits(f'saga type "{type}"', limits)
        self.limits = list(limits)
        self.type = type
        self.version = version
        self.input = input
        self.deadline = deadline
        self.steps: list[Node[I]] = []
        self.line: list[Node[I]] = []
        # The line, or the parallel group, that a step which is declared now becomes part of; and
        # the groups around it.
        self._place: list[Node[I]] | Parallel[I] = self.line
        self._groups: list[Node[I]] = []

    def __repr__(self) -> str:
        return f"Saga({self.type!r}, version={self.version})"

    def step(
        self,
        _without_parentheses: None = None,
        /,
        *,
        name: str | None = None,
        state: str | None = None,
        retry: Retry | None = None,
        timeout: float = 60.0,
        transactional: bool = False,
        bulk: bool = False,
        pivot: bool = False,
        nothing_to_undo: str | None = None,
        when: Callable[[Command[I]], Any] | None = None,
        each: Callable[[Command[I]], Sequence[Any]] | None = None,
        concurrency: int | None = None,
        best_effort: bool = False,
        key_age: timedelta | None = None,
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
            when: a function of the command; where it says no, the step is skipped: it has no
                result, and is never undone. It looks at the input and at results, and at nothing
                else, for it may be asked again.
            each: a function of the command that gives a list; the step runs once for each of its
                elements, side by side, and its handlers take the element as their second argument:
                ``async def reserve(cmd, line)``. ``cmd.results(step)`` has the results in order.
            concurrency: how many elements at once; default 10.
            best_effort: a failure of this step for good does not fail the saga: it goes on, and its
                error says in the end what failed.
            key_age: for how long the other side knows the step's idempotency key. An attempt that
                is in doubt is not repeated beyond it: the saga is suspended, or the step's
                reconcile asked, which is asked in any case.

        Raises:
            DefinitionError: two steps have one name, two are pivots, or an argument is impossible.
        """
        check_parentheses(f"{self.type}.step", _without_parentheses)
        if concurrency is not None and (
            each is None or not isinstance(concurrency, int) or concurrency < 1
        ):
            raise DefinitionError(
                f'saga type "{self.type}": concurrency={concurrency!r}, but it is the number of '
                "elements that run at once, of a step with each=…, and at least 1"
            )
        if pivot and (each is not None or best_effort or self._groups):
            raise DefinitionError(
                f'saga type "{self.type}": the pivot cannot be best-effort, run for each element, '
                "or stand in a group: put it before or after the group"
            )

        def declare(handler: Callable[..., Any]) -> Step[I, Any]:
            step_name = name or handler.__name__
            owner = self._check_name(step_name)
            if pivot and (first := next((s for s in self.steps if s.pivot), None)):
                raise DefinitionError(
                    f'saga type "{self.type}" has two pivots: "{first.name}" and "{step_name}"'
                )
            _check_reason(owner, nothing_to_undo)
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
                when=when,
                each=each,
                concurrency=(concurrency or _CONCURRENCY) if each is not None else None,
                best_effort=best_effort,
                key_age=key_age,
            )
            self._add(step)
            return step

        return cast(StepDecorator[I], declare)

    def sleep(
        self,
        name: str,
        duration: timedelta | datetime | Callable[[Command[I]], timedelta | datetime],
        *,
        when: Callable[[Command[I]], Any] | None = None,
    ) -> None:
        """Adds a step that does nothing but wait, while no worker holds the saga.

        Args:
            duration: how long, or until which instant; or a function of the command that says so.
            when: as for ``step``.
        """
        self._add(Sleep(name, self._check_name(name), duration, when))

    def wait_for(
        self,
        signal: str,
        *,
        name: str | None = None,
        result: type[D] | None = None,
        timeout: timedelta | None = None,
        on_timeout: OnTimeout = "fail",
        state: str | None = None,
        when: Callable[[Command[I]], Any] | None = None,
    ) -> Wait[I, D]:
        """Adds a step that waits for a signal, whose payload is its result.

        Args:
            signal: its name, as in ``Client.signal``. One that came early has been kept.
            name: the step's; default the signal's.
            result: what the payload is; default anything.
            timeout: how long to wait; needed unless the saga has a deadline.
            on_timeout: ``"fail"`` the saga, so that it is undone; ``"continue"`` without a payload;
                ``"suspend"`` it, for a person.
            state: the domain state that the saga is in once the signal has come.
            when: as for ``step``.
        """
        name = name or signal
        owner = self._check_name(name)
        if not _NAME.fullmatch(signal):
            raise DefinitionError(
                f"{owner}: signal={signal!r} is not a name (letters, digits, _ . -)"
            )
        node: Wait[I, D] = Wait(
            name,
            owner,
            signal=signal,
            result=result,
            timeout=timeout,
            on_timeout=on_timeout,
            state=state,
            when=when,
        )
        self._add(node)
        return node

    def run(
        self,
        name: str,
        saga: Saga[Any],
        *,
        input: Callable[[Command[I]], Any],
        result: type[D] | None = None,
        state: str | None = None,
        when: Callable[[Command[I]], Any] | None = None,
        nothing_to_undo: str | None = None,
    ) -> SubSaga[I, D]:
        """Adds a step that starts another saga and waits for its end; its output is the result.

        If that saga fails, the step is rejected. To undo the step is to undo that saga: one that
        lives is aborted, one that has completed is undone, its pivot too.

        Args:
            saga: the other one; some worker has to run it.
            input: a function of the command that gives its input.
            result: what its output is; default anything.
            state: the domain state that the saga is in once the other one has completed.
            when: as for ``step``.
            nothing_to_undo: why it is left as it is when this saga is undone.
        """
        owner = self._check_name(name)
        check_kind(owner, "saga", saga, Saga, "a Saga: give the saga itself, not its name")
        if not callable(input):
            raise DefinitionError(
                f"{owner}: input={input!r} is not a function of the command that gives the other "
                "saga's input: lambda cmd: …"
            )
        _check_reason(owner, nothing_to_undo)
        undo = None
        if nothing_to_undo is None:
            undo = Runnable(_undo_of_sub_saga, owner, Retry(attempts=20), 60.0, False, False)
        node: SubSaga[I, D] = SubSaga(
            name,
            owner,
            saga,
            input=input,
            result=result,
            state=state,
            when=when,
            undo=undo,
            nothing_to_undo=nothing_to_undo,
        )
        self._add(node)
        return node

    @contextlib.contextmanager
    def parallel(self, name: str, *, state: str | None = None) -> Iterator[Branches[I]]:
        """The steps declared within run side by side; the next step waits for all of them.

        If one fails, those that run come to their end, no other begins, and all are undone, in the
        reverse of the order in which they began.

        Args:
            name: the group's, which stands in the history like a step's.
            state: the domain state that the saga is in once all are done.
        """
        node: Parallel[I] = Parallel(name, self._check_name(name), state)
        self._add(node)
        before, self._place = self._place, node
        self._groups.append(node)
        yield Branches(self, node)
        self._place = before
        self._groups.pop()

    @contextlib.contextmanager
    def choice(self, name: str) -> Iterator[Alternatives[I]]:
        """One of the alternatives declared within runs, the first whose condition holds; if there
        is none, the saga goes on behind them.

        Args:
            name: the choice's, which stands in the history like a step's.
        """
        node: Choice[I] = Choice(name, self._check_name(name))
        self._add(node)
        before, self._place = self._place, _Nowhere()
        self._groups.append(node)
        yield Alternatives(self, node)
        self._place = before
        self._groups.pop()

    @contextlib.contextmanager
    def _on(self, line: list[Node[I]]) -> Iterator[None]:
        before, self._place = self._place, line
        yield
        self._place = before

    def _check_name(self, name: str) -> str:
        check_kind(f'saga type "{self.type}"', "name", name, str, "the name of a step")
        owner = f'step "{name}" of saga type "{self.type}"'
        if not _NAME.fullmatch(name):
            raise DefinitionError(f"{owner}: not a name (letters, digits, _ . -)")
        if any(name == other.name for other in self.steps):
            raise DefinitionError(f'saga type "{self.type}" has two steps named "{name}"')
        return owner

    def _add(self, node: Node[I]) -> None:
        if isinstance(self._place, Parallel):
            self._place.branches.append([node])
        elif isinstance(self._place, _Nowhere):
            raise DefinitionError(
                f"{node.owner} stands in a choice, but in no alternative: "
                "use `with choice.when(…)` or `with choice.otherwise()`"
            )
        else:
            self._place.append(node)
        node.within = list(self._groups)
        self.steps.append(node)

    def link(self) -> None:
        """Tells each step which one follows."""
        _link(self.line, None)

    def check(self) -> None:
        """Refuses what can only be seen once all steps are declared.

        Raises:
            DefinitionError: naming the step, and what is wrong with it.
        """
        check_saga(self)

    def find_step(self, name: str) -> Node[I]:
        """The step of this name.

        Raises:
            LookupError: there is none.
        """
        for step in self.steps:
            if step.name == name:
                return step
        raise LookupError(f'saga type "{self.type}" version {self.version} has no step "{name}"')


def _check_reason(owner: str, nothing_to_undo: object) -> None:
    if nothing_to_undo is None:
        return
    if not isinstance(nothing_to_undo, str) or not nothing_to_undo.strip():
        raise DefinitionError(f'{owner}: nothing_to_undo must say why, such as "it only reads"')


class _Nowhere(list[Any]):
    """Where no step may be declared."""


def _undo_of_sub_saga(cmd: Any) -> None:
    """Never called: the database undoes it."""


def _link(line: Sequence[Node[Any]], after: str | None) -> None:
    for place, node in enumerate(line):
        node.next = line[place + 1].name if place + 1 < len(line) else after
        if isinstance(node, Parallel):
            for branch in node.branches:
                _link(branch, None)
            node.heads = [branch[0].name for branch in node.branches]
        elif isinstance(node, Choice):
            for _, alternative in node.alternatives:
                _link(alternative, node.next)
            node.heads = [
                alternative[0].name if alternative else None for _, alternative in node.alternatives
            ]


# `type` is shadowed by an argument above.
builtin_type = type

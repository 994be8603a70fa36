"""What a worker can run: sagas, and what their handlers need while it runs."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson

from outbox.definition.event import Subscriber
from outbox.definition.flow import Built, Choice, Wait
from outbox.definition.reference import load_reference
from outbox.definition.retry import Retry
from outbox.definition.saga import Saga
from outbox.definition.step import Runnable, Step
from outbox.errors import ConfigurationError, DefinitionError


@dataclass(frozen=True, slots=True)
class AppContext:
    """What an app's lifespan may know: the engine's database and schema."""

    dsn: str
    schema: str


Lifespan = Callable[[AppContext], AbstractAsyncContextManager[Iterable[object]]]


@asynccontextmanager
async def _no_resources(_context: AppContext) -> AsyncIterator[Iterable[object]]:
    yield ()


class App:
    """Sagas that are deployed together, and the resources that their handlers share.

    Args:
        sagas: the saga types; several versions of one type may stand side by side.
        lifespan: an async context manager around the worker's life. It yields the objects that
            ``Command.resource`` finds by their class: an HTTP client, a pool.
        subscribers: functions that are told of what any saga of the installation emits.

    Raises:
        DefinitionError: a saga type is impossible, or given twice, or a subscriber is.
    """

    def __init__(
        self,
        sagas: Sequence[Saga[Any]],
        lifespan: Lifespan = _no_resources,
        subscribers: Sequence[Subscriber] = (),
    ) -> None:
        if not isinstance(sagas, Sequence) or not all(isinstance(s, Saga) for s in sagas):
            raise DefinitionError(f"an App takes a list of sagas, App([…]), not {sagas!r}")
        self.sagas = {(saga.type, saga.version): saga for saga in sagas}
        self.lifespan = lifespan
        self.subscribers = {subscriber.name: subscriber for subscriber in subscribers}
        if len(self.subscribers) != len(subscribers):
            raise DefinitionError("an App has two subscribers of one name")
        if not sagas:
            raise DefinitionError("an App needs at least one saga")
        if len(self.sagas) != len(sagas):
            names = ", ".join(sorted(f"{s.type} version {s.version}" for s in sagas))
            raise DefinitionError(f"an App has the same version of a saga type twice: {names}")
        for saga in sagas:
            saga.check()


def load_app(reference: str) -> App:
    """The app that ``module:attribute`` names; the attribute may be an App, a Saga, or sagas.

    Raises:
        ConfigurationError: there is no such thing there.
        DefinitionError: what is there is impossible.
    """
    found = load_reference(reference, repr(reference))
    if isinstance(found, App):
        return found
    if isinstance(found, Saga):
        return App([found])
    if isinstance(found, list | tuple) and found and all(isinstance(s, Saga) for s in found):
        return App(found)
    module, _, attribute = reference.partition(":")
    names = vars(sys.modules[module])
    known = [name for name, value in names.items() if isinstance(value, App | Saga)]
    hint = f"; it has {', '.join(f'{module}:{name}' for name in known)}" if known else ""
    raise ConfigurationError(
        f"{reference!r}: module {module} has no App or Saga named {attribute!r}{hint}"
    )


def describe_steps(saga: Saga[Any]) -> str:
    """A saga's steps as the JSON text that the database registers; times in seconds."""
    described = []
    saga.link()
    for position, step in enumerate(saga.steps, start=1):
        undo, ask = step.undo, step.ask
        transactional = isinstance(step, Step) and step.transactional
        policy = step if isinstance(step, Step | Built) else None
        assert policy is not None, "a step has a handler, or is built in"
        described.append(
            {
                "position": position,
                "name": step.name,
                "state": step.state,
                "does": step.does,
                "next": step.next,
                "heads": step.heads or None,
                "signal": step.signal if isinstance(step, Wait) else None,
                "fans_out": isinstance(step, Step) and step.each is not None,
                "concurrency": step.concurrency if isinstance(step, Step) else None,
                "best_effort": step.best_effort,
                "optional": any(isinstance(group, Choice) for group in step.within),
                "key_age": _interval(step.key_age if isinstance(step, Step) else None),
                "pivot": step.pivot,
                "transactional": transactional,
                **_policy("", policy, policy.retry),
                "undo": undo is not None,
                "undo_transactional": undo is not None and undo.transactional,
                **_policy("undo_", undo or policy, undo.retry if undo else policy.retry),
                **({} if ask is None else _policy("ask_", ask, ask.retry)),
                "nothing_to_undo": step.nothing_to_undo,
            }
        )
    return orjson.dumps(described).decode()


def describe_input(saga: Saga[Any]) -> str:
    """The JSON schema of a saga's input, as JSON text."""
    return orjson.dumps(saga.input.model_json_schema()).decode()


def describe_limits(saga: Saga[Any]) -> str:
    """A saga's limits as JSON text."""
    return orjson.dumps([limit.describe() for limit in saga.limits]).decode()


def _interval(duration: timedelta | None) -> str | None:
    return None if duration is None else f"{duration.total_seconds()} seconds"


def _policy(prefix: str, runnable: Runnable | Built[Any], retry: Retry) -> dict[str, Any]:
    return {
        f"{prefix}timeout": f"{runnable.timeout} seconds",
        f"{prefix}attempts": retry.attempts,
        f"{prefix}backoff": f"{retry.base} seconds",
        f"{prefix}backoff_cap": f"{retry.cap} seconds",
    }

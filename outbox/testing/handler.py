"""What a handler is given, for tests that call it by itself."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel
from pydantic_core import to_json

from outbox.definition.command import Command, Kind
from outbox.definition.node import Node
from outbox.definition.saga import Saga
from outbox.definition.step import Step

I = TypeVar("I", bound=BaseModel)  # noqa: E741 - the input's type, as everywhere in this package


def command(
    saga: Saga[I],
    input: I,
    *,
    step: Node[Any] | None = None,
    kind: Kind = "action",
    key: str = "test",
    attempt: int = 1,
    element: int | None = None,
    # Not Mapping[Node[Any], …]: a dict with steps of several kinds as keys is none.
    results: Mapping[Any, object] | None = None,
    resources: Iterable[object] = (),
    in_doubt: bool = False,
) -> Command[I]:
    """What a handler is given, without an engine: ``await reserve.handler(command(order, …))``.

    Afterwards ``Command.emitted`` has the events that the handler told. ``Command.once`` remembers
    nothing.

    Args:
        saga: the type.
        input: the saga's.
        step: the step that the handler belongs to, or that it undoes; default the saga's first.
        kind: ``"action"``, ``"compensation"`` or ``"reconcile"``.
        key: the saga's, from which ``Command.idempotency_key`` is made.
        attempt: which attempt it is, from 1.
        element: the place of the element, from 0, of a step that runs for each of some.
        results: what steps have returned, by step; of one that runs for each of some elements, a
            list with a result for each of them.
        resources: what ``Command.resource`` finds, as the app's lifespan would yield them.
        in_doubt: as in ``Command``.

    Raises:
        ValueError: a result has no JSON form, or is no list where it has to be one.
    """
    known: dict[str, bytes] = {}
    for node, result in (results or {}).items():
        if isinstance(node, Step) and node.each is not None:
            known |= _results_of(node.name, result)
        else:
            known[node.name] = to_json(result)
    return Command(
        saga_id=uuid.uuid4(),
        type=saga.type,
        version=saga.version,
        key=key,
        step=(step or saga.steps[0]).name,
        kind=kind,
        input=input,
        attempt=attempt,
        in_doubt=in_doubt,
        element=element,
        _results=known,
        _resources=resources,
    )


def _results_of(name: str, results: object) -> dict[str, bytes]:
    """The results of the elements of a step, as an engine would hand them over."""
    if isinstance(results, str) or not isinstance(results, Sequence):
        raise ValueError(
            f'step "{name}" runs for each of some elements: give a list of results, not {results!r}'
        )
    each = {f"{name}/{place}": to_json(result) for place, result in enumerate(results)}
    return {f"{name}/": to_json([None] * len(results)), **each}

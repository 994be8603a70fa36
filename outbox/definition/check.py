"""What can only be seen once all steps of a saga are declared."""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable
from types import UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

from pydantic import BaseModel, RootModel
from pydantic.fields import FieldInfo

from outbox.definition.flow import Choice, Parallel, SubSaga, Wait
from outbox.definition.limit import Limit
from outbox.definition.node import Node
from outbox.errors import DefinitionError

if TYPE_CHECKING:
    from outbox.definition.saga import Saga


def check_saga(saga: Saga[Any]) -> None:
    """Refuses a saga that cannot work.

    Raises:
        DefinitionError: naming the step, and what is wrong with it.
    """
    if not saga.steps:
        raise DefinitionError(f'saga type "{saga.type}" has no steps')
    _check_limit_paths(saga)
    _check_undo(saga)
    for node in saga.steps:
        _check_group(node)
        if isinstance(node, Wait) and node.patience is None and saga.deadline is None:
            raise DefinitionError(
                f"{node.owner} may wait forever: give it a timeout, or the saga a deadline"
            )
        for predicate in node.predicates:
            _check_predicate(saga, node, predicate)
    _check_circle(saga, [])


def _check_limit_paths(saga: Saga[Any]) -> None:
    """Refuses a limit at a path that no input has: it would limit nothing."""
    for limit in saga.limits:
        if not isinstance(limit, Limit) or limit.per is None:
            continue
        model: Any = saga.input
        for name in limit.per.split("."):
            if not _is_closed(model):
                break
            fields = _fields(model)
            if name not in fields:
                raise DefinitionError(
                    f'saga type "{saga.type}": Limit(…, per={limit.per!r}): {model.__name__} has '
                    f"no field {name!r}, it has {', '.join(fields) or 'none'}"
                )
            model = _model_of(fields[name].annotation)


def _is_closed(model: Any) -> bool:
    """Whether this is a model whose fields are all that it can have."""
    return (
        isinstance(model, type)
        and issubclass(model, BaseModel)
        and not issubclass(model, RootModel)
        and model.model_config.get("extra") != "allow"
    )


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """A model's fields by the names that they may have in its JSON."""
    return {
        name: field
        for own, field in model.model_fields.items()
        for name in ([field.alias, field.serialization_alias] if field.alias else [own])
        if name is not None
    }


def _model_of(annotation: Any) -> Any:
    """What is within an annotation of one kind, or None: ``Address`` in ``Address | None``."""
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    if get_origin(annotation) in (Union, UnionType) and len(kinds) == 1:
        return kinds[0]
    return annotation


def _check_undo(saga: Saga[Any]) -> None:
    for node in saga.steps:
        if node.pivot:
            return
        if node.undo is None and node.nothing_to_undo is None:
            raise DefinitionError(
                f"{node.owner} is before the pivot and cannot be undone: give it a "
                f"compensation (@{node.name}.compensation()), or say nothing_to_undo='why'"
            )


def _check_group(node: Node[Any]) -> None:
    if isinstance(node, Parallel) and (not node.branches or not all(node.branches)):
        raise DefinitionError(f"{node.owner}: a branch has no steps")
    if isinstance(node, Choice) and not node.alternatives:
        raise DefinitionError(f"{node.owner} has no alternatives")


def _check_predicate(saga: Saga[Any], node: Node[Any], predicate: Callable[..., Any]) -> None:
    """Refuses a predicate that names a step which has no result by then: a later one, or one of
    another branch or alternative."""
    place = saga.steps.index(node)
    for other in _named(predicate):
        if other not in saga.steps:
            continue
        if other is node and isinstance(node, Parallel | Choice):
            continue
        if saga.steps.index(other) >= place:
            raise DefinitionError(
                f'{node.owner}: its condition looks at the result of step "{other.name}", '
                "which comes later"
            )
        beside = [
            group
            for group in other.within
            if isinstance(group, Parallel)
            and group in node.within
            and _branch(group, other) is not _branch(group, node)
        ]
        if beside:
            raise DefinitionError(
                f'{node.owner}: its condition looks at the result of step "{other.name}", '
                f'which runs beside it in "{beside[0].name}"'
            )


def _named(predicate: Callable[..., Any]) -> list[Node[Any]]:
    """The steps that a function names, as globals or from the scope around it; an attribute of the
    same name, such as a field of the input, is none of them."""
    if not inspect.isfunction(predicate):
        return []
    values = list(inspect.getclosurevars(predicate).nonlocals.values())
    codes = [predicate.__code__]
    for code in codes:
        codes += [inner for inner in code.co_consts if inspect.iscode(inner)]
        values += [
            predicate.__globals__.get(instruction.argval)
            for instruction in dis.get_instructions(code)
            if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME")
        ]
    return [value for value in values if isinstance(value, Node)]


def _branch(group: Parallel[Any], node: Node[Any]) -> list[Node[Any]] | None:
    """The branch of a group that a step is in."""
    for branch in group.branches:
        if any(member is node or member in node.within for member in branch):
            return branch
    return None


def _check_circle(saga: Saga[Any], above: list[Saga[Any]]) -> None:
    if any(other.type == saga.type for other in above):
        circle = " -> ".join(f'"{other.type}"' for other in [*above, saga])
        raise DefinitionError(f"sub-sagas go in a circle: {circle}")
    for node in saga.steps:
        if isinstance(node, SubSaga):
            _check_circle(node.saga, [*above, saga])

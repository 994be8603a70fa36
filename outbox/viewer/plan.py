"""A definition's steps as a tree, as a diagram draws them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class PlanStep:
    """A step of a definition.

    Args:
        does: ``action``, ``sleep``, ``signal``, ``saga``, ``parallel`` or ``choice``.
        state: the domain state that the saga has once the step is done.
        undo: it declares a compensation.
        fans_out: it runs once for each of some elements.
        optional: it is within a choice, so that a saga may do without it.
        signal: the name of the signal that it waits for.
        branches: of a ``parallel`` group and of a ``choice`` the steps within, a list for each.
    """

    name: str
    position: int
    does: str
    state: str
    pivot: bool
    transactional: bool
    undo: bool
    fans_out: bool
    best_effort: bool
    optional: bool
    signal: str | None
    nothing_to_undo: str | None
    branches: list[list[PlanStep]] = field(default_factory=list)


def plan_of(steps: Sequence[Mapping[str, Any]]) -> list[PlanStep]:
    """The steps of a definition, as ``definitions`` has them, in the order in which they run; those
    of a group or a choice stand within it."""
    by_name = {step["name"]: step for step in steps}

    def chain(name: str | None, stop: str | None) -> list[PlanStep]:
        found = []
        while name is not None and name != stop:
            step = by_name[name]
            # An alternative goes on with what follows its choice; a branch ends.
            end = step.get("next") if step["does"] == "choice" else None
            found.append(_plan_step(step, [chain(head, end) for head in step.get("heads") or ()]))
            name = step.get("next")
        return found

    first = min(steps, key=lambda step: int(step["position"]), default=None)
    return [] if first is None else chain(first["name"], None)


def flat(plan: Sequence[PlanStep]) -> list[PlanStep]:
    """All steps of a plan, those within groups after their group."""
    found = []
    for step in plan:
        found += [step, *(inner for branch in step.branches for inner in flat(branch))]
    return found


def _plan_step(step: Mapping[str, Any], branches: list[list[PlanStep]]) -> PlanStep:
    return PlanStep(
        name=step["name"],
        position=step["position"],
        does=step["does"],
        state=step["state"],
        pivot=step["pivot"],
        transactional=step["transactional"],
        undo=step["undo"],
        fans_out=step["fans_out"],
        best_effort=step["best_effort"],
        optional=step["optional"],
        signal=step.get("signal"),
        nothing_to_undo=step.get("nothing_to_undo"),
        branches=branches,
    )

"""What all steps of a saga have in common, whatever they do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from outbox.definition.argument import check_function, check_kind

if TYPE_CHECKING:
    from outbox.definition.command import Command
    from outbox.definition.step import Runnable

I = TypeVar("I")  # noqa: E741 - the input's type, as everywhere in this package


class Node(Generic[I]):
    """A step of a saga, whatever it does.

    Attributes:
        next: the name of the step that follows on the same line; None: the line ends.
        heads: of a group, the first step of each branch or alternative.
    """

    does = "action"

    def __init__(
        self, name: str, owner: str, state: str | None, when: Callable[[Command[I]], Any] | None
    ) -> None:
        if state is not None:
            check_kind(owner, "state", state, str, "the name of a state")
        check_function(owner, "when", when)
        self.name = name
        self.owner = owner
        self.state = state or f"{name.upper()}_DONE"
        self.when = when
        self.next: str | None = None
        self.heads: list[str | None] = []
        self.pivot = False
        self.nothing_to_undo: str | None = "it has no effect of its own"
        self.undo: Runnable | None = None
        self.ask: Runnable | None = None
        self.best_effort = False
        self.within: list[Node[I]] = []

    @property
    def predicates(self) -> list[Callable[[Command[I]], Any]]:
        """The functions that decide about this step before it begins."""
        return [] if self.when is None else [self.when]

"""What a worker has in hand: its claimed commands, and how many more it may claim."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast
from uuid import UUID

from outbox.definition.command import Command, Kind, idempotency_key
from outbox.definition.saga import Saga
from outbox.definition.step import Runnable, Step
from outbox.store.functions import Answer, Claimed


@dataclass(frozen=True, slots=True)
class HeldCommand:
    """A command that this worker holds, with what it needs to run it.

    ``begin_before`` is an instant of ``link.clock()``: once it has passed, the attempt could
    overrun the deadline in its row, so it must not begin. ``shared`` is what a saga keeps from
    step to step while it stays in this worker's hand: its validated input and its results.
    """

    command: UUID
    fence: int
    seq: int
    saga: Saga[Any]
    key: str
    kind: str
    step: Step[Any, Any]
    ordinal: int
    attempt: int
    revision: int
    in_doubt: bool
    error: Mapping[str, Any] | None
    begin_before: float
    shared: SharedState

    @property
    def runnable(self) -> Runnable:
        """The handler to run, with its policies."""
        if self.kind == "action":
            return self.step
        assert self.step.undo is not None, "the database sends undo only where it is declared"
        return self.step.undo

    @property
    def fields(self) -> dict[str, Any]:
        """What every log line about it carries."""
        return {
            "saga_id": str(self.command),
            "type": self.saga.type,
            "step": self.step.name,
            "kind": self.kind,
            "attempt": self.attempt,
        }

    def to_command(self, resources: Iterable[object]) -> Command[Any]:
        """The handler's view. Validates the input once per saga and worker.

        Raises:
            pydantic.ValidationError: the stored input is not what this model accepts.
        """
        if self.shared.model is None:
            self.shared.model = self.saga.input.model_validate(self.shared.input)
        undone_in_doubt = self.kind == "compensation" and self.step.name not in self.shared.results
        return Command(
            saga_id=self.command,
            type=self.saga.type,
            version=self.saga.version,
            key=self.key,
            step=self.step.name,
            kind=cast(Kind, self.kind),
            input=self.shared.model,
            attempt=self.attempt,
            idempotency_key=idempotency_key(
                self.saga.type,
                self.key,
                self.step.name,
                undo=self.kind == "compensation",
                revision=self.revision,
            ),
            in_doubt=self.in_doubt or undone_in_doubt,
            error=self.error,
            _results=self.shared.results,
            _resources=resources,
        )

    def followed_by(
        self, answer: Answer, begin_before: float, error: Mapping[str, Any] | None
    ) -> HeldCommand:
        """The saga's next command, which ``advance`` left in this worker's hand."""
        assert answer.fence is not None
        return replace(
            self,
            fence=answer.fence,
            seq=answer.seq,
            kind=answer.kind,
            step=self.saga.find_step(answer.step),
            ordinal=answer.ordinal,
            attempt=answer.attempt,
            revision=answer.revision,
            in_doubt=answer.in_doubt,
            error=error if error is not None else self.error,
            begin_before=begin_before,
        )


@dataclass(slots=True)
class SharedState:
    """A saga's input and results, as long as it stays in one worker's hand."""

    input: Any
    results: dict[str, Any] = field(default_factory=dict)
    model: Any = None


def from_claim(row: Claimed, saga: Saga[Any], begin_before: float) -> HeldCommand:
    """A claimed row as a command in hand."""
    return HeldCommand(
        command=row.command,
        fence=row.fence,
        seq=row.seq,
        saga=saga,
        key=row.key,
        kind=row.kind,
        step=saga.find_step(row.step),
        ordinal=row.ordinal,
        attempt=row.attempt,
        revision=row.revision,
        in_doubt=row.in_doubt,
        error=row.error,
        begin_before=begin_before,
        shared=SharedState(row.input, dict(row.results or {})),
    )


Slot = tuple[UUID, int]
"""A command's place in the hand: its id, and the fence of its claim."""


class Hand:
    """The commands in hand, by id, within the limits of this worker.

    Args:
        sagas: what this worker can run, by (type, version).
        concurrency: how many commands it holds at most.
        type_concurrency: of those, how many of a type at most.
    """

    def __init__(
        self,
        sagas: Mapping[tuple[str, int], Saga[Any]],
        concurrency: int,
        type_concurrency: Mapping[str, int],
    ) -> None:
        self.sagas = dict(sagas)
        self.types = sorted(self.sagas)
        self._concurrency = concurrency
        self._type_concurrency = dict(type_concurrency)
        self._held: dict[Slot, HeldCommand] = {}
        self._running: Counter[str] = Counter()
        self._turn = 0
        self.changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._held)

    def commands(self) -> set[UUID]:
        """The ids of the commands in hand."""
        return {held.command for held in self._held.values()}

    def take(self, held: HeldCommand) -> Slot:
        """Adds a claimed command. Its slot is the claim's own: a worker that was taken for dead may
        claim a saga anew while its old attempt still runs, and each must let go of its own."""
        slot = (held.command, held.fence)
        self._running[held.saga.type] += 1
        self._held[slot] = held
        return slot

    def drop(self, slot: Slot) -> None:
        """Lets a command go."""
        held = self._held.pop(slot)
        self._running[held.saga.type] -= 1
        self.changed.set()

    def wanted(self) -> list[tuple[str, int, int]]:
        """How many commands to claim, as (type, version, limit): what is free, shared out evenly;
        the types take turns in being first, for when there is less than one for each."""
        free = self._concurrency - len(self._held)
        self._turn += 1
        start = self._turn % len(self.types)
        order = self.types[start:] + self.types[:start]
        spare = {t: self._type_concurrency[t] - self._running[t] for t in self._type_concurrency}
        wanted = []
        for place, (type_, version) in enumerate(order):
            share = -(-free // (len(order) - place))
            limit = min(share, spare.get(type_, share))
            if limit > 0:
                wanted.append((type_, version, limit))
                free -= limit
                if type_ in spare:
                    spare[type_] -= limit
        return wanted

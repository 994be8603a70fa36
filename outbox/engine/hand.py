"""What a worker has in hand: its claimed commands, and how many more it may claim."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

from outbox.definition.command import Command, Kind, Memory, parsed
from outbox.definition.flow import SubSaga
from outbox.definition.node import Node
from outbox.definition.saga import Saga
from outbox.store.functions import Answer, Claimed, TraceOrigin


@dataclass(slots=True, eq=False)
class SharedState:
    """What a saga keeps from step to step while it stays in this worker's hand: its results, as
    they were read or as JSON, and its input, once as it was read and once validated; and where its
    trace comes from, if this worker traces."""

    saga: Saga[Any]
    command: UUID
    saga_id: UUID
    key: str
    input: Any
    results: dict[str, Any]
    model: Any = None
    trace: TraceOrigin | None = None


@dataclass(slots=True, eq=False)
class HeldCommand:
    """A command that this worker holds, with what it needs to run it.

    ``runnable`` is the handler to run, with its policies. ``begin_before`` is an instant of
    ``clock()``: once it has passed, the attempt could overrun the deadline in its row, so it must
    not begin.
    """

    command: UUID
    fence: int
    shared: SharedState
    kind: str
    step: Node[Any]
    runnable: Any
    attempt: int
    revision: int
    in_doubt: bool
    error: Mapping[str, Any] | None
    begin_before: float
    element: int | None = None
    awaits: str | None = None
    arrived: Any = None

    @property
    def fields(self) -> dict[str, Any]:
        """What every log line about it carries."""
        return {
            "saga_id": str(self.shared.saga_id),
            "type": self.shared.saga.type,
            "step": self.step.name,
            "kind": self.kind,
            "attempt": self.attempt,
            **({} if self.element is None else {"element": self.element}),
        }

    def to_command(
        self,
        resources: Iterable[object],
        memory: Callable[[HeldCommand], Memory] | None = None,
    ) -> Command[Any]:
        """The handler's view. Validates the input once per saga and worker.

        Args:
            memory: makes what the handler remembers its sub-effects by.

        Raises:
            pydantic.ValidationError: the stored input is not what this model accepts.
        """
        shared, step = self.shared, self.step.name
        saga = shared.saga
        if shared.model is None:
            shared.model = saga.input.model_validate(shared.input)
        undone_in_doubt = self.kind == "compensation" and self.result_name not in shared.results
        return Command(
            shared.saga_id,
            saga.type,
            saga.version,
            shared.key,
            step,
            cast(Kind, self.kind),
            shared.model,
            self.attempt,
            self.in_doubt or undone_in_doubt,
            self.error,
            self.revision,
            self.element,
            shared.results,
            resources,
            None if memory is None else lambda: memory(self),
        )

    @property
    def result_name(self) -> str:
        """Under which name the results know this command's."""
        return self.step.name if self.element is None else f"{self.step.name}/{self.element}"

    def arguments(self, command: Command[Any]) -> tuple[Any, ...]:
        """What the handler is called with, but for a transaction."""
        if self.element is None:
            return (command,)
        elements = parsed(self.shared.results[f"{self.step.name}/"])
        return command, self.runnable.load_element(elements[self.element])

    def followed_by(
        self, answer: Answer, begin_before: float, error: Mapping[str, Any] | None
    ) -> HeldCommand:
        """The saga's next command, which ``advance`` left in this worker's hand."""
        assert answer.fence is not None
        step = self.shared.saga.find_step(answer.step)
        return HeldCommand(
            self.command,
            answer.fence,
            self.shared,
            answer.kind,
            step,
            _runnable(step, answer.kind),
            answer.attempt,
            answer.revision,
            answer.in_doubt,
            error if error is not None else self.error,
            begin_before,
            answer.element,
        )


def from_claim(row: Claimed, saga: Saga[Any], begin_before: float) -> HeldCommand:
    """A claimed row as a command in hand."""
    step = saga.find_step(row.step)
    return HeldCommand(
        row.command,
        row.fence,
        SharedState(
            saga,
            row.command,
            row.root or row.command,
            row.key,
            row.input,
            dict(row.results or {}),
        ),
        row.kind,
        step,
        _runnable(step, row.kind),
        row.attempt,
        row.revision,
        row.in_doubt,
        row.error,
        begin_before,
        row.element,
        row.awaits,
        row.arrived,
    )


def _runnable(step: Node[Any], kind: str) -> Any:
    if kind == "action" or isinstance(step, SubSaga):
        return step
    runnable = step.undo if kind == "compensation" else step.ask
    assert runnable is not None, "the database sends undo and reconcile only where declared"
    return runnable


class Hand:
    """The commands in hand, by id, within the limits of this worker. A command is in hand while its
    attempt runs, and while what became of it is on its way to the database.

    Args:
        sagas: what this worker can run, by (type, version).
        concurrency: how many attempts it runs at once at most.
        size: how many commands it holds at most.
        type_concurrency: of those, how many of a type at most.
    """

    def __init__(
        self,
        sagas: Mapping[tuple[str, int], Saga[Any]],
        *,
        concurrency: int,
        size: int,
        type_concurrency: Mapping[str, int],
    ) -> None:
        self.sagas = dict(sagas)
        self.types = sorted(self.sagas)
        self._concurrency = concurrency
        self._size = size
        self._type_concurrency = dict(type_concurrency)
        self._held: set[SharedState] = set()
        self._by_type: Counter[str] = Counter()
        self._turn = 0
        self._running = 0
        self._waiting: deque[HeldCommand] = deque()
        self._queued = 0
        self.changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._held)

    @property
    def running(self) -> int:
        """How many attempts run, outside of transactions."""
        return self._running

    def commands(self) -> set[UUID]:
        """The ids of the commands in hand."""
        return {shared.command for shared in self._held}

    def take(self, held: HeldCommand) -> None:
        """Adds a claimed command. Its place is the claim's own: a worker that was taken for dead
        may claim a saga anew while its old attempt still runs, and each lets go of its own."""
        self._by_type[held.shared.saga.type] += 1
        self._held.add(held.shared)

    def drop(self, held: HeldCommand) -> None:
        """Lets a saga go, with the command that is its turn now."""
        if held.shared in self._held:
            self._held.remove(held.shared)
            self._by_type[held.shared.saga.type] -= 1
            self.changed.set()

    def begin(self, held: HeldCommand) -> bool:
        """Whether an attempt may begin now; if not, it waits its turn."""
        if self._running < self._concurrency:
            self._running += 1
            return True
        self._waiting.append(held)
        return False

    def end(self) -> HeldCommand | None:
        """Ends an attempt; the one that may begin in its place."""
        if self._waiting:
            return self._waiting.popleft()
        self._running -= 1
        self.changed.set()
        return None

    def queue(self) -> None:
        """Notes a command that waits for a transaction."""
        self._queued += 1

    def unqueue(self, count: int) -> None:
        """Notes that so many have got one."""
        self._queued -= count
        self.changed.set()

    def give_up_waiting(self) -> list[HeldCommand]:
        """Those that wait for their turn, which wait no more."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    async def emptied(self, seconds: float) -> None:
        """Waits until nothing is in hand, but no longer than that."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._held:
                    self.changed.clear()
                    await self.changed.wait()

    @property
    def free(self) -> int:
        """How many more commands there is room for. What is not begun takes the room of what runs,
        so that little of it is kept from other workers."""
        busy = self._running + len(self._waiting) + self._queued
        return min(self._concurrency - busy, self._size - len(self._held))

    @property
    def has_much_room(self) -> bool:
        """Whether no attempt runs, or nothing is in hand that could make more room."""
        return not self._held or self.free >= self._concurrency

    def wanted(self) -> list[tuple[str, int, int]]:
        """How many commands to claim, as (type, version, limit): what is free, shared out evenly;
        the types take turns in being first, for when there is less than one for each."""
        free = self.free
        self._turn += 1
        start = self._turn % len(self.types)
        order = self.types[start:] + self.types[:start]
        spare = {t: self._type_concurrency[t] - self._by_type[t] for t in self._type_concurrency}
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

"""Sagas made at random: whatever their shape, they do everything or undo what they did."""

import asyncio
import contextlib
import random
from collections import Counter
from datetime import timedelta
from uuid import UUID

import pytest

from outbox import App, Command, Rejected, Retry, Saga
from outbox.errors import NotApplicableError
from tests.engine.bench import Bench, Note, make_saga
from tests.engine.tree import Tree

QUICK = Retry(attempts=4, base=0.001, cap=0.002, no_effect=(ConnectionError,))
SHAPES = 40


class Made(Tree):
    """A saga of a random shape, and what its handlers did."""

    def __init__(self, seed: int, others: list[Saga[Note]]) -> None:
        self.dice = random.Random(seed)
        self.saga = make_saga()
        self.others = others
        self.steps: list[str] = []
        self.signals: list[str] = []
        self.done: Counter[str] = Counter()
        self.undone: Counter[str] = Counter()
        self.tried: Counter[str] = Counter()
        self.line(depth=0)
        if self.dice.random() < 0.4:
            self._pivot()
        candidates = [None, *self.steps, *self.steps]
        self.fails_at = self.dice.choice(candidates)
        for _ in range(self.dice.randrange(3) if self.has_pivot else 0):
            self._after_pivot()

    @property
    def has_pivot(self) -> bool:
        return any(step.pivot for step in self.saga.steps)

    @property
    def stands_alone(self) -> bool:
        """Whether it can be another's sub-saga."""
        starts_others = any(step.does == "saga" for step in self.saga.steps)
        return not (starts_others or self.has_pivot or self.signals)

    def node(self, depth: int) -> None:
        kinds = ["step", "step", "step", "each", "sleep", "skipped", "signal", "best effort"]
        if self.others and depth == 0:
            kinds.append("sub")
        if depth < 3:
            kinds += ["parallel", "parallel", "choice"]
        name = f"n{len(self.saga.steps)}"
        match self.dice.choice(kinds):
            case "step":
                self._step(name)
            case "skipped":
                self._step(name, when=lambda cmd: False)
            case "each":
                self._each(name, self.dice.randrange(4))
            case "signal":
                self.saga.wait_for(name, timeout=timedelta(minutes=5))
                self.signals.append(name)
            case "best effort":
                self._best_effort(name)
            case "sleep":
                self.saga.sleep(name, timedelta(milliseconds=1))
            case "sub":
                self.saga.run(name, self.dice.choice(self.others), input=lambda cmd: cmd.input)
            case "parallel":
                self.parallel(name, depth)
            case "choice":
                self.choice(name, depth)

    def _step(self, name: str, **more: object) -> None:
        async def act(cmd: Command[Note]) -> str:
            return await self._act(cmd)

        async def undo(cmd: Command[Note]) -> None:
            await self._undo(cmd)

        step = self.saga.step(name=name, retry=QUICK, **more)(act)  # type: ignore[arg-type]
        step.compensation(retry=QUICK)(undo)
        self.steps.append(name)

    def _best_effort(self, name: str) -> None:
        async def try_it(cmd: Command[Note]) -> None:
            if self.dice.random() < 0.5:
                raise Rejected("not today")

        once = Retry(attempts=1)
        self.saga.step(name=name, retry=once, best_effort=True, nothing_to_undo="a mail")(try_it)

    def _pivot(self) -> None:
        async def act(cmd: Command[Note]) -> str:
            return await self._act(cmd)

        name = f"n{len(self.saga.steps)}"
        self.saga.step(name=name, retry=QUICK, pivot=True)(act)
        self.steps.append(name)

    def _after_pivot(self) -> None:
        """A step that has to succeed in the end, for there is no way back."""

        async def act(cmd: Command[Note]) -> str:
            return await self._act(cmd)

        patient = Retry(attempts=50, base=0.001, cap=0.002, no_effect=(ConnectionError,))
        self.saga.step(name=f"n{len(self.saga.steps)}", retry=patient)(act)

    def _each(self, name: str, count: int) -> None:
        async def act(cmd: Command[Note], element: int) -> str:
            return await self._act(cmd)

        async def undo(cmd: Command[Note], element: int) -> None:
            await self._undo(cmd)

        step = self.saga.step(
            name=name, retry=QUICK, each=lambda cmd: list(range(count)), concurrency=2
        )(act)
        step.compensation(retry=QUICK)(undo)
        self.steps.append(name)

    async def _act(self, cmd: Command[Note]) -> str:
        self.tried[cmd.idempotency_key] += 1
        await asyncio.sleep(self.dice.random() * 0.005)
        if cmd.step == self.fails_at and cmd.element in (None, 1):
            raise Rejected(cmd.step)
        if self.dice.random() < 0.1:
            raise ConnectionError("not reached")
        self.done[f"{cmd.step}/{cmd.element}"] += 1
        return cmd.step

    async def _undo(self, cmd: Command[Note]) -> None:
        if self.dice.random() < 0.1:
            raise ConnectionError("not reached")
        self.undone[f"{cmd.step}/{cmd.element}"] += 1


async def _tell(bench: Bench, saga_id: UUID, signals: list[str]) -> None:
    """Sends what a saga will wait for, before or while it waits; it may end before."""
    async with bench.connection() as connection:
        for name in signals:
            with contextlib.suppress(NotApplicableError):
                await bench.client.signal(connection, saga_id, name)


@pytest.mark.parametrize("first", [0, SHAPES])
async def test_a_saga_of_any_shape_does_everything_or_undoes_what_it_did(
    bench: Bench, first: int
) -> None:
    made: list[Made] = []
    for seed in range(first, first + SHAPES):
        made.append(Made(seed, [m.saga for m in made[-5:] if m.stands_alone]))
    ends = Counter[str]()
    async with bench.worker(App([m.saga for m in made]), poll=0.1):
        # One after the other, for a sub-saga's handlers count in its own maker.
        for one in made:
            for other in made:
                other.done.clear()
                other.undone.clear()
            started = await bench.start(one.saga)
            await _tell(bench, started, one.signals)
            status = await bench.settled(started)
            ends[status.status] += 1
            problems = await bench.errors(status.id)
            assert status.status in ("COMPLETED", "FAILED"), (status.reason, problems)
            for other in made:
                if status.status == "FAILED":
                    assert other.undone == other.done, f"shape {first + made.index(one)}"
                elif other is one or other.done:
                    assert not other.undone
                    assert all(count == 1 for count in other.done.values())
    assert ends["COMPLETED"] > SHAPES / 5
    assert ends["FAILED"] > SHAPES / 5
    assert await bench.violations() == []

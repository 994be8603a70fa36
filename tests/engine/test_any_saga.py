"""Sagas made at random: whatever their shape, they do everything or undo what they did."""

import asyncio
import random
from collections import Counter
from datetime import timedelta

import pytest

from outbox import App, Command, Rejected, Retry, Saga
from tests.engine.bench import Bench, Note, make_saga

QUICK = Retry(attempts=4, base=0.001, cap=0.002, no_effect=(ConnectionError,))
SHAPES = 40


class Made:
    """A saga of a random shape, and what its handlers did."""

    def __init__(self, seed: int, others: list[Saga[Note]]) -> None:
        self.dice = random.Random(seed)
        self.saga = make_saga()
        self.others = others
        self.steps: list[str] = []
        self.done: Counter[str] = Counter()
        self.undone: Counter[str] = Counter()
        self.tried: Counter[str] = Counter()
        self._line(depth=0)
        candidates = [None, *self.steps, *self.steps]
        self.fails_at = self.dice.choice(candidates)

    def _line(self, depth: int) -> None:
        for _ in range(self.dice.randrange(1, 4)):
            self._node(depth)

    def _node(self, depth: int) -> None:
        kinds = ["step", "step", "step", "each", "sleep", "skipped"]
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
            case "sleep":
                self.saga.sleep(name, timedelta(milliseconds=1))
            case "sub":
                self.saga.run(name, self.dice.choice(self.others), input=lambda cmd: cmd.input)
            case "parallel":
                with self.saga.parallel(name) as group:
                    for _ in range(self.dice.randrange(1, 4)):
                        with group.branch():
                            self._line(depth + 1)
            case "choice":
                with self.saga.choice(name) as choice:
                    for _ in range(self.dice.randrange(1, 3)):
                        holds = self.dice.random() < 0.5
                        with choice.when(lambda cmd, holds=holds: holds):
                            self._line(depth + 1)

    def _step(self, name: str, **more: object) -> None:
        async def act(cmd: Command[Note]) -> str:
            return await self._act(cmd)

        async def undo(cmd: Command[Note]) -> None:
            await self._undo(cmd)

        step = self.saga.step(name=name, retry=QUICK, **more)(act)  # type: ignore[arg-type]
        step.compensation(retry=QUICK)(undo)
        self.steps.append(name)

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


@pytest.mark.parametrize("first", [0, SHAPES])
async def test_a_saga_of_any_shape_does_everything_or_undoes_what_it_did(
    bench: Bench, first: int
) -> None:
    made: list[Made] = []
    for seed in range(first, first + SHAPES):
        inner = [m.saga for m in made[-3:] if not any(s.does == "saga" for s in m.saga.steps)]
        made.append(Made(seed, inner))
    ends = Counter[str]()
    async with bench.worker(App([m.saga for m in made]), poll=0.1):
        # One after the other, for a sub-saga's handlers count in its own maker.
        for one in made:
            for other in made:
                other.done.clear()
                other.undone.clear()
            status = await bench.settled(await bench.start(one.saga))
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

"""Sagas of random shapes that use the whole language, and the world that they act upon."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import sql
from pydantic import BaseModel

from outbox import Command, Happened, NotDone, Rejected, Retry, Saga, Unknown
from tests.engine.tree import Tree

TIMEOUT = 0.4
BOOKED = (
    "create table booked (n bigint generated always as identity, saga_id uuid, step text, "
    "undone boolean)"
)
"""What transactional steps have done, in order."""


class Parcel(BaseModel):
    """The input of these sagas: what it says, and for whom it is."""

    text: str = ""
    customer: str = ""


class Deed(NamedTuple):
    """Something that a handler did, under which idempotency key."""

    undone: bool
    key: str


class World:
    """What the handlers did, and how much goes wrong there; what they do in transactions is in the
    table ``booked`` of the schema.

    Args:
        mischief: how often things go wrong: 1 is often.
    """

    def __init__(self, seed: int, schema: str, mischief: float) -> None:
        self._mischief = mischief
        self.dice = random.Random(seed)
        table = sql.Identifier(schema, "booked")
        columns = sql.SQL("insert into {} (saga_id, step, undone) values (%s, %s, %s)")
        self._book = columns.format(table)
        self.is_calm = False
        self.deeds: defaultdict[tuple[UUID, str, int | None], list[Deed]] = defaultdict(list)

    def happens(self, chance: float) -> bool:
        return not self.is_calm and self.dice.random() < chance * self._mischief

    async def do(self, cmd: Command[Parcel]) -> str:
        """An effect that the provider makes once a key; it may fail before and after it."""
        until = time.time() + TIMEOUT
        await asyncio.sleep(self.dice.random() * 0.01)
        if self.happens(0.06):
            raise Rejected(cmd.step)
        if self.happens(0.15):
            raise ConnectionError("not reached")
        if self.happens(0.03):
            await asyncio.sleep(TIMEOUT * 2)
        await self.note(cmd, Deed(False, cmd.idempotency_key), until)
        cmd.emit("parcel.moved", {"by": cmd.idempotency_key})
        if self.happens(0.12):
            raise RuntimeError("the answer was lost")
        return cmd.step

    async def undo(self, cmd: Command[Parcel]) -> None:
        until = time.time() + TIMEOUT
        await asyncio.sleep(self.dice.random() * 0.01)
        if self.happens(0.06):
            raise Rejected("not now")
        if self.happens(0.15):
            raise ConnectionError("not reached")
        await self.note(cmd, Deed(True, cmd.idempotency_key), until)
        if self.happens(0.1):
            raise RuntimeError("the answer was lost")

    async def ask(self, cmd: Command[Parcel]) -> Happened | NotDone | Unknown:
        await asyncio.sleep(self.dice.random() * 0.01)
        if self.happens(0.15):
            return Unknown("nobody is at home")
        if self.happens(0.2):
            raise RuntimeError("no answer")
        return Happened(cmd.step) if await self.is_done(cmd) else NotDone()

    async def note(self, cmd: Command[Parcel], deed: Deed, until: float) -> None:
        """Makes the effect, unless it is later than ``until``: by its timeout a caller tells how
        long its call is good for, and a provider that minds makes no effect after that."""
        self.deeds[cmd.saga_id, cmd.step, cmd.element].append(deed)

    async def is_done(self, cmd: Command[Parcel]) -> bool:
        """Whether the command's step has had its effect."""
        there = self.deeds[cmd.saga_id, cmd.step, cmd.element]
        return bool(there) and not there[-1].undone

    async def book(self, cmd: Command[Parcel], tx: Any) -> str:
        """An effect in the database itself, which happens once or not at all."""
        await tx.execute(self._book, (cmd.saga_id, cmd.step, False))
        cmd.emit("parcel.moved", {"by": cmd.idempotency_key})
        if self.happens(0.15):
            raise RuntimeError("rolled back")
        return cmd.step

    async def unbook(self, cmd: Command[Parcel], tx: Any) -> None:
        await tx.execute(self._book, (cmd.saga_id, cmd.step, True))
        if self.happens(0.15):
            raise RuntimeError("rolled back")


class Shape(Tree):
    """A saga type of a random shape; the same seed makes the same one, in any version.

    Args:
        others: types that it may run as sub-sagas.
    """

    def __init__(
        self, seed: int, name: str, others: list[Saga[Parcel]], world: World, version: int
    ) -> None:
        self.dice = random.Random(seed)
        self.world = world
        self.others = others
        limit = timedelta(seconds=self.dice.uniform(0.5, 4)) if self.dice.random() < 0.3 else None
        self.saga = Saga(name, input=Parcel, version=version, deadline=limit)
        self.signals: list[str] = []
        self.line(depth=0)
        self.has_pivot = self.dice.random() < 0.4
        if self.has_pivot:
            self._step(self._name(), pivot=True)
            for _ in range(self.dice.randrange(3)):
                self._after_pivot()

    def _name(self) -> str:
        return f"n{len(self.saga.steps)}"

    def _retry(self, attempts: int | None = None) -> Retry:
        return Retry(
            attempts=attempts or self.dice.randrange(1, 5),
            base=0.01,
            cap=self.dice.choice([0.02, 0.5]),
            no_effect=(ConnectionError,),
        )

    def node(self, depth: int) -> None:
        kinds = ["step", "step", "step", "each", "sleep", "skipped", "signal", "best effort"]
        kinds += ["asked", "asked", "booked"]
        if self.others and depth < 2:
            kinds += ["sub", "sub"]
        if depth < 2:
            kinds += ["parallel", "parallel", "choice"]
        name = self._name()
        match self.dice.choice(kinds):
            case "step":
                self._step(name)
            case "skipped":
                self._step(name, when=lambda cmd: False)
            case "best effort":
                self._step(name, best_effort=True)
            case "asked":
                self._step(name, asks=True)
            case "booked":
                self._booked(name)
            case "each":
                self._each(name, self.dice.randrange(5))
            case "signal":
                self.signals.append(name)
                seconds = self.dice.choice([0.3, 60])
                then: Any = self.dice.choice(["fail", "continue", "suspend"])
                self.saga.wait_for(name, timeout=timedelta(seconds=seconds), on_timeout=then)
            case "sleep":
                self.saga.sleep(name, timedelta(seconds=self.dice.choice([0.01, 0.3])))
            case "sub":
                other = self.dice.choice(self.others)
                self.saga.run(name, other, input=lambda cmd: cmd.input)
            case "parallel":
                self.parallel(name, depth)
            case "choice":
                self.choice(name, depth)

    def _step(self, name: str, *, asks: bool = False, **more: Any) -> None:
        world = self.world

        async def act(cmd: Command[Parcel]) -> str:
            return await world.do(cmd)

        async def undo(cmd: Command[Parcel]) -> None:
            await world.undo(cmd)

        async def ask(cmd: Command[Parcel]) -> Happened | NotDone | Unknown:
            return await world.ask(cmd)

        step = self.saga.step(name=name, retry=self._retry(), timeout=TIMEOUT, **more)(act)
        step.compensation(retry=self._retry(), timeout=TIMEOUT)(undo)
        if asks:
            step.reconcile(retry=self._retry(), timeout=TIMEOUT)(ask)

    def _each(self, name: str, count: int) -> None:
        world = self.world

        async def act(cmd: Command[Parcel], element: int) -> str:
            return await world.do(cmd)

        async def undo(cmd: Command[Parcel], element: int) -> None:
            await world.undo(cmd)

        step = self.saga.step(
            name=name,
            retry=self._retry(),
            timeout=TIMEOUT,
            each=lambda cmd: list(range(count)),
            concurrency=self.dice.randrange(1, 4),
        )(act)
        step.compensation(retry=self._retry(), timeout=TIMEOUT)(undo)

    def _booked(self, name: str) -> None:
        world = self.world

        async def act(cmd: Command[Parcel], tx: Any) -> str:
            return await world.book(cmd, tx)

        async def undo(cmd: Command[Parcel], tx: Any) -> None:
            await world.unbook(cmd, tx)

        step = self.saga.step(name=name, retry=self._retry(), timeout=TIMEOUT, transactional=True)(
            act
        )
        step.compensation(retry=self._retry(), timeout=TIMEOUT, transactional=True)(undo)

    def _after_pivot(self) -> None:
        """What suspends when it fails."""
        if self.dice.random() < 0.2:
            name = self._name()
            self.signals.append(name)
            self.saga.wait_for(name, timeout=timedelta(seconds=60))
        else:
            self._step(self._name(), asks=self.dice.random() < 0.3)


def make_shapes(seed: int, count: int, world: World) -> list[Shape]:
    """Types that may run those before them, each in two versions with the same steps."""
    shapes: list[Shape] = []
    for number in range(count):
        others = [s.saga for s in shapes[-6:] if s.saga.version == 1]
        shapes += [
            Shape(seed * 1000 + number, f"shape_{number}", others, world, version)
            for version in (1, 2)
        ]
    return shapes

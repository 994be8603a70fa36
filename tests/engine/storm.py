"""A storm of acts, deaths and failures over sagas of random shapes, and what must hold after it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Coroutine
from typing import Any
from uuid import UUID

import psycopg

from outbox import App
from outbox.definition.step import Step
from outbox.rules import Rules
from tests.engine.any_shape import BOOKED, Parcel, Shape, World, make_shapes
from tests.engine.bench import Bench, Running, until
from tests.engine.operators import Acts, Person, is_lost

LEFT_OVER = {
    table: f"select count(*) from {table}"  # noqa: S608 - a list of ours
    for table in ("outbox", "ticket", "slot")
}


class Storm:
    """Sagas of random shapes in a schema, workers that die, and people who act.

    Args:
        types: how many saga types, each in two versions.
        seconds: how long it lasts.
        people: how many act at once.
        mischief: how often handlers fail: 1 is often.
        strict: no advance, either, may be ended in favour of an act on many sagas.
    """

    def __init__(
        self,
        bench: Bench,
        seed: int,
        *,
        types: int,
        seconds: float,
        people: int = 2,
        mischief: float = 1,
        strict: bool = False,
    ) -> None:
        self.bench = bench
        self.strict = strict
        self.people = people
        self.dice = random.Random(seed)
        self.world = self.make_world(seed, mischief)
        self.shapes = make_shapes(seed, types, self.world)
        self.types = [shape.saga.type for shape in self.shapes if shape.saga.version == 1]
        self.signals = sorted({name for shape in self.shapes for name in shape.signals}) or ["x"]
        self.seconds = seconds
        self.acts = Acts()
        self.heard: list[Running] = []
        self.over = asyncio.Event()

    def make_world(self, seed: int, mischief: float) -> World:
        """What the handlers act upon."""
        return World(seed, self.bench.schema.name, mischief)

    def shape_of(self, type_: str) -> Shape:
        return next(s for s in self.shapes if s.saga.type == type_)

    async def run(self) -> None:
        """The storm, and the calm after it."""
        await self.bench.register(*(shape.saga for shape in self.shapes))
        await self.bench.rows(BOOKED)
        await self.bench.rows("update setting set max_deaths = 3, grace = '0.05 s', hold = '0.5 s'")
        tasks = [asyncio.create_task(part) for part in self.parts()]
        try:
            ended, _ = await asyncio.wait(
                tasks, timeout=self.seconds, return_when=asyncio.FIRST_EXCEPTION
            )
            for task in ended:
                task.result()
            self.over.set()
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        await self._calm_down()

    def parts(self) -> list[Coroutine[Any, Any, None]]:
        """What goes on at the same time."""
        people = [self._act() for _ in range(self.people)]
        return [self._start(), self._work(), self._work(), *people]

    async def _start(self) -> None:
        while not self.over.is_set():
            async with self.may_lose_connection(), self.bench.connection() as connection:
                while not self.over.is_set():
                    shape = self.dice.choice(self.shapes)
                    parcel = Parcel(customer=f"customer-{self.dice.randrange(4)}")
                    await self.bench.client.start(connection, shape.saga, parcel)
                    await asyncio.sleep(self.dice.random() * 0.05)

    async def _act(self) -> None:
        dice = random.Random(self.dice.random())
        while not self.over.is_set():
            async with self.may_lose_connection(), self.bench.connection() as connection:
                person = Person(connection, dice, self.types, self.signals, self.acts)
                while not self.over.is_set():
                    await person.act_once()
                    await asyncio.sleep(dice.random() * 0.02)

    @contextlib.asynccontextmanager
    async def may_lose_connection(self) -> AsyncIterator[None]:
        """For somebody who then takes another one."""
        try:
            yield
        except psycopg.OperationalError as error:
            if not is_lost(error):
                raise
            await asyncio.sleep(0.05)

    async def _work(self) -> None:
        """One worker after the other: the first crashes, the second leaves in order, …"""
        dice = random.Random(self.dice.random())
        while not self.over.is_set():
            async with self._worker() as running:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.over.wait(), dice.uniform(0.3, 2.5))
                if dice.random() < 0.7:
                    await running.crash()

    @contextlib.asynccontextmanager
    async def _worker(self) -> AsyncIterator[Any]:
        app = App([shape.saga for shape in self.shapes])
        async with self.bench.worker(app, lease=1.0, poll=0.1, shutdown_grace=1.0) as running:
            self.heard.append(running)
            yield running

    async def _calm_down(self) -> None:
        """Ends what holds sagas up, and tries again what is suspended, until all have ended."""
        self.world.is_calm = True
        async with self._worker(), self._worker(), self.bench.connection() as connection:
            await self._let_go(connection)
            for turn in range(200):
                await self._help(connection, turn)
                if not await self.bench.rows("select 1 from outbox limit 1"):
                    break
                await asyncio.sleep(0.1)
            left = await self.bench.rows(
                "select o.*, t.state, t.parked, t.blocked, t.version from outbox o "
                "left join ticket t on t.saga_id = coalesce(o.root, o.id)"
            )
            assert left == [], "\n".join(map(str, left)) + await self._tell(
                [(row[0], "lives", "still") for row in left]
            )
            await self._until_counted()

    async def _let_go(self, connection: Any) -> None:
        """Ends all pauses; of the limits some go, and the others get room."""
        rules = Rules(self.bench.schema.name)
        for type_, name, path, per in await self.bench.rows(
            "select type, name, path, per from saga_limit where amount is not null"
        ):
            if self.dice.random() < 0.5:
                await rules.drop_limit(connection, type_, name)
            else:
                await rules.set_limit(connection, type_, name, 3, key=path, per=per)
        for saga, type_ in await self.bench.rows(
            "select saga_id, type from pause where resumed_at is null"
        ):
            if saga is None:
                await connection.execute("select resume('calm', %s)", (type_,))
            else:
                await self._let(connection, "select resume_saga(%s, 'calm')", saga)

    async def _until_counted(self) -> None:
        """What ran when its limit came is found to have ended by looking, every half second."""

        async def counted() -> bool:
            return not await self.bench.rows("select 1 from ticket where untold limit 1")

        await until(counted, 10)

    async def _help(self, connection: Any, turn: int) -> None:
        waiting = await self.bench.rows(
            "select coalesce(o.root, o.id), s.signal from outbox o join definition_step s "
            "on s.type = o.type and s.version = o.version and s.name = o.step "
            "where o.awaits = 'signal' and o.worker is null and o.status <> 'SUSPENDED' "
            "and o.due_at > clock()"
        )
        for saga, signal in waiting:
            await self._let(connection, "select signal(%s, %s)", saga, signal)
        suspended = await self.bench.rows(
            "select distinct coalesce(root, id) from outbox where status = 'SUSPENDED'"
        )
        for (saga,) in suspended:
            if turn > 100:
                await self._let(connection, "select resolve(%s, 'FAILED', 'calm')", saga)
            else:
                await self._let(connection, "select retry(%s, 'calm')", saga)

    async def _let(self, connection: Any, statement: str, *parameters: Any) -> None:
        try:
            await connection.execute(statement, parameters)
        except Exception as error:
            if getattr(error, "sqlstate", None) not in ("SG005", "SG006"):
                raise

    async def check(self) -> None:
        """What must hold whatever has happened."""
        rows = self.bench.rows
        print(dict(sorted(self.acts.counts.items())))  # shown where the test fails
        trouble = self.trouble()
        if not self.strict:  # whoever is ended in favour of an act on many sagas tries again
            trouble = [fields for fields in trouble if fields.get("sqlstate") != "40P01"]
        assert trouble == [], "\n".join(str(fields.get("error")) for fields in trouble)
        assert self.acts.problems == [], "\n".join(self.acts.problems)
        violations = await self.bench.violations()
        assert violations == [], await self._tell(
            [(v.saga_id, v.invariant, v.detail) for v in violations]
        )
        for table, count in LEFT_OVER.items():
            assert (await rows(count))[0][0] == 0, table
        await self._check_acts()
        await self._check_events()
        await self._check_effects()
        await self._check_history()

    def trouble(self) -> list[dict[str, Any]]:
        """What workers told of that should not have happened."""
        return [
            fields
            for running in self.heard
            for name in ("database_trouble", "internal_error", "outcome_not_storable")
            for fields in running.events(name)
        ]

    async def _check_acts(self) -> None:
        """What was accepted stands in ``act`` once, what was refused or only tried nowhere."""
        written = Counter(note for (note,) in await self.bench.rows("select note from act"))
        wrong = {
            note: (written[note], expected)
            for note, expected in self.acts.expected.items()
            if not expected[0] <= written[note] <= expected[1]
        }
        assert wrong == {}

    async def _check_events(self) -> None:
        """Each step that a worker has done told of it once, in the order of the history."""
        done = await self.bench.rows(
            "select t.saga_id, t.seq from transition t join instance i on i.id = t.saga_id "
            "join definition_step s on (s.type, s.version, s.name) = (i.type, i.version, t.step) "
            "where t.kind = 'action' and t.outcome = 'done' and t.worker is not null "
            "and s.does = 'action' order by 1, 2"
        )
        assert done == await self.bench.rows(
            "select saga_id, seq from event order by saga_id, number"
        )

    async def _check_effects(self) -> None:
        rows = self.bench.rows
        sagas = {
            saga: (type_, status)
            for saga, type_, status in await rows("select id, type, status from instance")
        }
        resolved = {saga for (saga,) in await rows("select saga_id from act where act = 'resolve'")}
        by_hand = {
            (saga, step)
            for saga, step in await rows(
                "select saga_id, detail ->> 'step' from act where act = 'skip' "
                "and detail ->> 'kind' = 'compensation'"
            )
        }
        problems = []
        for (saga, step, element), deeds in self.world.deeds.items():
            type_, status = sagas[saga]
            name = step if element is None else f"{step}/{element}"
            node = next(n for n in self.shape_of(type_).saga.steps if n.name == step)
            if not deeds:
                continue
            if len({deed.key for deed in deeds if not deed.undone}) > 1:
                problems.append((saga, name, f"was done under several keys: {deeds}"))
            if saga in resolved or (saga, name) in by_hand:
                continue
            is_undone = deeds[-1].undone
            if status == "FAILED" and getattr(node, "undo", None) is not None and not is_undone:
                problems.append((saga, name, f"was not undone: {deeds}"))
            if status == "COMPLETED" and any(deed.undone for deed in deeds):
                problems.append((saga, name, f"was undone: {deeds}"))
        for saga, step in await rows(
            "select saga_id, step from booked group by 1, 2 "
            "having (array_agg(undone order by n desc))[1] = false"
        ):
            if sagas[saga][1] == "FAILED" and not (saga in resolved or (saga, step) in by_hand):
                problems.append((saga, step, "is still booked"))
        assert problems == [], await self._tell(problems)

    async def _check_history(self) -> None:
        """What was done in transactions is what the history says, no more and no less; of what was
        done outside there is all that it says, and nothing that it does not know of."""
        rows = self.bench.rows
        transactional = {
            (shape.saga.type, node.name)
            for shape in self.shapes
            for node in shape.saga.steps
            if getattr(node, "transactional", False)
        }
        told: defaultdict[tuple[UUID, str], list[bool]] = defaultdict(list)
        done, known = set(), set()
        for saga, type_, step, element, kind, outcome, worker in await rows(
            "select t.saga_id, i.type, t.step, t.element, t.kind, t.outcome, t.worker "
            "from transition t join instance i on i.id = t.saga_id "
            "where t.kind in ('action', 'compensation', 'reconcile') order by t.saga_id, t.seq"
        ):
            if (type_, step) in transactional:
                if outcome == "done" and worker is not None:
                    told[saga, step].append(kind == "compensation")
            elif kind != "compensation" and outcome in ("done", "in_doubt", "retry"):
                known.add((saga, step, element))
                if outcome == "done" and worker is not None and self._has_effect(type_, step):
                    done.add((saga, step, element))
        booked: defaultdict[tuple[UUID, str], list[bool]] = defaultdict(list)
        for saga, step, undone in await rows("select saga_id, step, undone from booked order by n"):
            booked[saga, step].append(undone)
        problems = [
            (saga, step, f"booked {booked[saga, step]}, told {told[saga, step]}")
            for saga, step in sorted({*told, *booked})
            if booked[saga, step] != told[saga, step]
        ]
        deeds = {what for what, of_it in self.world.deeds.items() if of_it}
        problems += [(saga, step, f"{n} was not done") for saga, step, n in done - deeds]
        problems += [(saga, step, f"{n} is in no history") for saga, step, n in deeds - known]
        assert problems == [], await self._tell(problems)

    def _has_effect(self, type_: str, step: str) -> bool:
        """Whether a step calls ``World.do``."""
        node = next(n for n in self.shape_of(type_).saga.steps if n.name == step)
        return isinstance(node, Step)

    async def _tell(self, problems: list[Any]) -> str:
        lines: list[str] = []
        lines += [" ".join(map(str, problem)) for problem in problems]
        for saga in dict.fromkeys(saga for saga, _, _ in problems[:3]):
            lines.append(f"{saga}:")
            lines += [
                str(row)
                for row in await self.bench.rows(
                    "select seq, kind, step, element, ordinal, undoes, attempt, outcome, "
                    "from_status, to_status, fence, line, error, result from transition "
                    "where saga_id = %s order by seq",
                    saga,
                )
            ]
        return "\n".join(lines)

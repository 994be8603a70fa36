"""How much a worker runs at once, and that no type's backlog stands in another's way."""

import asyncio
from collections import Counter
from typing import Any

from psycopg import AsyncConnection

from outbox import App, Command, Saga
from tests.engine.bench import Bench, Note, make_saga, until


class Watch:
    """How many handlers run at once, in all and of each type."""

    def __init__(self) -> None:
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.go_on = asyncio.Event()

    def watched(self) -> Saga[Note]:
        saga = make_saga()

        @saga.step(nothing_to_undo="it only waits")
        async def one(cmd: Command[Note]) -> None:
            await self._run(saga.type)

        @saga.step(nothing_to_undo="it only waits")
        async def two(cmd: Command[Note]) -> None:
            await self._run(saga.type)

        return saga

    async def _run(self, type_: str) -> None:
        for name in (type_, "all"):
            self.now[name] += 1
            self.most[name] = max(self.most[name], self.now[name])
        await self.go_on.wait()
        await asyncio.sleep(0)
        for name in (type_, "all"):
            self.now[name] -= 1


async def test_neither_a_worker_nor_a_type_goes_beyond_its_limit(bench: Bench) -> None:
    watch = Watch()
    narrow, wide = watch.watched(), watch.watched()
    await bench.register(narrow, wide)
    await bench.start_many(narrow, 60)
    await bench.start_many(wide, 60)
    limits = {narrow.type: 3}
    async with bench.worker(App([narrow, wide]), concurrency=10, type_concurrency=limits):
        await until(lambda: watch.now["all"] == 10)
        assert watch.now[narrow.type] == 3
        # What it holds is what it runs.
        held = await bench.rows("select count(*) from outbox where worker is not null")
        assert held == [(10,)]
        watch.go_on.set()
        await bench.all_settled()
    assert watch.most["all"] == 10
    assert watch.most[narrow.type] == 3
    ended = await bench.rows("select count(*) from instance where status = 'COMPLETED'")
    assert ended == [(120,)]


async def test_a_backlog_of_one_type_does_not_keep_the_others_waiting(bench: Bench) -> None:
    watch = Watch()
    watch.go_on.set()
    busy, *others = [watch.watched() for _ in range(4)]
    await bench.register(busy, *others)
    await bench.start_many(busy, 2000)
    async with bench.worker(App([busy, *others]), concurrency=8):
        for other in others:
            for saga_id in await bench.start_many(other, 5):
                await bench.settled(saga_id)
        ((waiting,),) = await bench.rows("select count(*) from outbox where status = 'CREATED'")
        assert waiting > 500, "the backlog was over before the others were"


async def test_every_type_progresses_with_fewer_places_than_types(bench: Bench) -> None:
    watch = Watch()
    watch.go_on.set()
    sagas = [watch.watched() for _ in range(5)]
    await bench.register(*sagas)
    for saga in sagas:
        await bench.start_many(saga, 30)
    async with bench.worker(App(sagas), concurrency=2):
        await bench.all_settled()
    ((before,),) = await bench.rows(
        "select count(*) from instance where ended_at < ("
        "select max(first) from (select min(ended_at) as first from instance group by type) as f)"
    )
    assert before < 75, "each type has ended one before half of all have ended"
    assert watch.most["all"] <= 2


async def test_little_waits_for_a_transaction_in_a_worker_whose_handlers_are_slow(
    bench: Bench,
) -> None:
    saga, go_on = make_saga(), asyncio.Event()

    @saga.step(transactional=True, pivot=True)
    async def book(cmd: Command[Note], tx: AsyncConnection[Any]) -> None:
        await go_on.wait()

    await bench.register(saga)
    await bench.start_many(saga, 100)
    held = "select count(*) from outbox where worker is not null"
    async with bench.worker(saga, concurrency=5, transactions=2, poll=0.05):
        await until(lambda: _is(bench, held, 15))
        await asyncio.sleep(0.3)  # it has looked for more several times
        assert await bench.rows(held) == [(15,)], "each lane has five, and five wait"
        go_on.set()
        await bench.all_settled()


async def _is(bench: Bench, statement: str, count: int) -> bool:
    return await bench.rows(statement) == [(count,)]

"""Limits with real workers: what really runs at once is counted by the handlers."""

import asyncio
from collections import defaultdict
from datetime import timedelta
from typing import Any

from outbox import App, Command, Saga
from outbox.engine.clock import clock
from tests.engine.bench import Bench, Note, make_saga, until


class Count:
    """How many of each key ran at once, at most."""

    def __init__(self) -> None:
        self.now: dict[str, int] = defaultdict(int)
        self.most: dict[str, int] = defaultdict(int)
        self.done = 0

    def enter(self, *keys: str) -> None:
        for key in keys:
            self.now[key] += 1
            self.most[key] = max(self.most[key], self.now[key])

    def leave(self, *keys: str) -> None:
        for key in keys:
            self.now[key] -= 1
        self.done += 1


def counted(count: Count, pause: float = 0.01) -> Saga[Note]:
    """Two steps: the saga runs from the beginning of the first to the end of the second."""
    saga = make_saga()

    @saga.step(nothing_to_undo="it counts")
    async def enter(cmd: Command[Note]) -> None:
        count.enter("all", cmd.input.text)
        await asyncio.sleep(pause)

    @saga.step(nothing_to_undo="it counts")
    async def leave(cmd: Command[Note]) -> None:
        await asyncio.sleep(pause)
        count.leave("all", cmd.input.text)

    return saga


async def set_limit(bench: Bench, saga: Saga[Any], amount: int, **more: Any) -> None:
    await bench.rows(
        "select set_limit(%s, %s, %s, p_key => %s, p_per => %s)",
        *(saga.type, more.get("name", "all"), amount, more.get("key"), more.get("per")),
    )


async def start(bench: Bench, saga: Saga[Note], texts: list[str]) -> None:
    inputs = [(None, Note(text=text)) for text in texts]
    async with bench.connection() as connection:
        await bench.client.start_many(connection, saga, inputs)


async def test_three_workers_together_run_no_more_than_the_limits(bench: Bench) -> None:
    count = Count()
    saga = counted(count)
    await bench.register(saga)
    await set_limit(bench, saga, 7)
    await set_limit(bench, saga, 2, name="key", key="text")
    async with bench.worker(saga), bench.worker(saga), bench.worker(saga):
        await asyncio.gather(
            *(start(bench, saga, [str(n % 6) for n in range(50)]) for _ in range(4))
        )
        await bench.all_settled(60)
    assert count.done == 200
    assert count.most.pop("all") == 7, "the limit is reached, and not exceeded"
    assert set(count.most.values()) == {2}
    assert await bench.violations() == []
    assert await bench.rows("select * from slot") == []
    assert await bench.rows("select * from ticket") == []


async def test_a_limit_takes_effect_within_a_second_both_ways(bench: Bench) -> None:
    count = Count()
    saga = counted(count, pause=0.03)
    await bench.register(saga)
    await set_limit(bench, saga, 1)
    async with bench.worker(saga, poll=30), bench.worker(saga, poll=30):
        await start(bench, saga, ["x"] * 400)
        await until(lambda: count.done > 2)
        assert count.most["all"] == 1
        await set_limit(bench, saga, 10)
        began = clock()
        await until(lambda: count.most["all"] == 10)
        assert clock() - began < 1
        await set_limit(bench, saga, 2)
        await asyncio.sleep(1)
        count.most.clear()
        await asyncio.sleep(0.5)
        assert count.most["all"] == 2
        await bench.rows("select drop_limit(%s, 'all')", saga.type)
        await bench.all_settled()
    assert count.done == 400
    assert await bench.violations() == []


async def test_workers_that_die_leave_no_slot_behind_and_exceed_nothing(bench: Bench) -> None:
    count = Count()
    saga = counted(count, pause=0.05)
    await bench.register(saga)
    await set_limit(bench, saga, 4)
    await start(bench, saga, ["x"] * 30)
    async with bench.worker(saga) as doomed, bench.worker(saga):
        await until(lambda: count.done > 3)
        await doomed.crash()
        held = await bench.rows("select count(*) from outbox where worker is not null")
        assert held[0][0] <= 4
        await bench.all_settled()
    assert await bench.rows("select count(*) from transition where outcome = 'in_doubt'") != []
    assert await bench.violations() == []
    assert (
        await bench.rows("select * from slot union all select type, '', '', saga_id from ticket")
        == []
    )


async def test_a_saga_that_waits_lets_another_run_and_queues_again(bench: Bench) -> None:
    count = Count()
    saga = make_saga()

    @saga.step(nothing_to_undo="it counts")
    async def before(cmd: Command[Note]) -> None:
        count.enter("all")
        await asyncio.sleep(0.01)
        count.now["all"] -= 1

    saga.sleep("nap", timedelta(milliseconds=200))
    saga.wait_for("go", timeout=timedelta(seconds=20))

    @saga.step(nothing_to_undo="it counts")
    async def after(cmd: Command[Note]) -> None:
        count.enter("all")
        await asyncio.sleep(0.01)
        count.leave("all")

    await bench.register(saga)
    await set_limit(bench, saga, 1)
    async with bench.worker(saga), bench.worker(saga):
        sagas = await bench.start_many(saga, 12)

        async def all_wait() -> bool:
            rows = await bench.rows("select count(*) from outbox where awaits = 'signal'")
            return bool(rows[0][0] == 12)

        await until(all_wait)
        assert await bench.rows("select * from slot") == []
        async with bench.connection() as connection:
            for saga_id in sagas:
                await bench.client.signal(connection, saga_id, "go")
        await bench.all_settled()
    assert (count.done, count.most["all"]) == (12, 1)
    assert await bench.violations() == []


async def test_branches_count_as_one_saga_and_who_waits_for_a_sub_saga_does_not_count(
    bench: Bench,
) -> None:
    count = Count()
    inner = counted(count)
    outer = make_saga()

    with outer.parallel("both"):

        @outer.step(nothing_to_undo="nothing")
        async def one(cmd: Command[Note]) -> None: ...

        @outer.step(nothing_to_undo="nothing")
        async def two(cmd: Command[Note]) -> None:
            await asyncio.sleep(0.05)

    outer.run("inner", inner, input=lambda cmd: cmd.input, nothing_to_undo="nothing")
    await bench.register(inner, outer)
    await set_limit(bench, inner, 1)
    await set_limit(bench, outer, 1)
    async with bench.worker(App([inner, outer])):
        await bench.start_many(outer, 5)
        await bench.all_settled()
    assert (count.done, count.most["all"]) == (5, 1)
    ended = await bench.rows("select count(*) from instance where status = 'COMPLETED'")
    assert ended == [(10,)]
    assert await bench.violations() == []


async def test_a_rate_is_kept_by_two_workers(bench: Bench) -> None:
    began: list[float] = []
    saga = make_saga()

    @saga.step(nothing_to_undo="it counts")
    async def begin(cmd: Command[Note]) -> None:
        began.append(clock())

    await bench.register(saga)
    await set_limit(bench, saga, 5, per=timedelta(seconds=0.5))
    async with bench.worker(saga, poll=30), bench.worker(saga, poll=30):
        await start(bench, saga, ["x"] * 20)
        await bench.all_settled()
    # What a handler's beginning may lie behind its admission.
    assert all(late - early > 0.45 for early, late in zip(began, began[5:], strict=False))
    assert began[-1] - began[0] < 3

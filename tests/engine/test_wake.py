"""How soon an idle worker hears of work: at once when it is woken, else at its next poll."""

import asyncio
from datetime import timedelta

from outbox import Command, Retry, RetryAfter, Saga
from tests.engine.bench import Bench, Note, make_saga, until
from tests.postgres.proxy import CommitDroppingProxy

SLOW_POLL = 300.0
"""Longer than any test waits: what happens sooner was not found by a poll."""


def make_quick() -> Saga[Note]:
    saga = make_saga()

    @saga.step(nothing_to_undo="it does nothing", retry=Retry(attempts=2))
    async def quick(cmd: Command[Note]) -> int:
        if cmd.input.text == "later" and cmd.attempt == 1:
            raise RetryAfter(0.3)
        return cmd.attempt

    return saga


async def idle(bench: Bench) -> bool:
    return bool(await bench.rows("select 1 from worker where idle"))


async def test_a_start_wakes_an_idle_worker(bench: Bench) -> None:
    saga = make_quick()
    async with bench.worker(saga, poll=SLOW_POLL):
        for _ in range(5):
            await until(lambda: idle(bench))
            assert (await bench.settled(await bench.start(saga))).status == "COMPLETED"


async def test_a_start_in_a_long_transaction_wakes_at_its_commit(bench: Bench) -> None:
    saga = make_quick()
    async with bench.worker(saga, poll=SLOW_POLL), bench.connection() as caller:
        await until(lambda: idle(bench))
        async with caller.transaction():
            started = await bench.client.start(caller, saga, Note())
            # Another saga passes meanwhile, and the worker tries to fall asleep again.
            await bench.settled(await bench.start(saga))
        assert (await bench.settled(started.id)).status == "COMPLETED"


async def test_a_retry_is_made_when_it_is_due_and_not_at_a_poll(bench: Bench) -> None:
    saga = make_quick()
    async with bench.worker(saga, poll=SLOW_POLL):
        saga_id = await bench.start(saga, "later")
        assert (await bench.settled(saga_id)).output == 2
    ((waited,),) = await bench.rows(
        "select max(at) - min(at) from transition where saga_id = %s", saga_id
    )
    assert waited >= timedelta(seconds=0.3)


async def test_what_is_released_wakes_another_worker(bench: Bench) -> None:
    saga, first_runs, go_on = make_saga(), asyncio.Event(), asyncio.Event()

    @saga.step(nothing_to_undo="it only waits")
    async def wait(cmd: Command[Note]) -> None:
        first_runs.set()
        await go_on.wait()

    @saga.step(nothing_to_undo="it does nothing")
    async def then(cmd: Command[Note]) -> None: ...

    async with bench.worker(saga, poll=SLOW_POLL, lease=60) as first:
        saga_id = await bench.start(saga)
        await first_runs.wait()
        async with bench.worker(saga, poll=SLOW_POLL, lease=60):
            await until(lambda: idle(bench))
            ending = asyncio.create_task(first.stop())
            await until(lambda: bool(first.events("worker_stopping")))
            go_on.set()
            await ending
            assert (await bench.settled(saga_id)).status == "COMPLETED"


async def test_without_listen_the_poll_finds_it(bench: Bench, proxy: CommitDroppingProxy) -> None:
    saga = make_quick()
    proxy.refuse()
    async with bench.worker(saga, poll=0.3, listen_dsn=proxy.before(bench.schema.dsn)) as running:
        await until(lambda: bool(running.events("database_trouble")))
        await until(lambda: idle(bench))
        assert (await bench.settled(await bench.start(saga))).status == "COMPLETED"
    assert {t["connection"] for t in running.events("database_trouble")} == {"outbox listen"}


async def test_listen_comes_back_and_what_was_missed_is_looked_for(
    bench: Bench, proxy: CommitDroppingProxy
) -> None:
    saga = make_quick()
    async with bench.worker(
        saga, poll=SLOW_POLL, listen_dsn=proxy.before(bench.schema.dsn)
    ) as running:
        await until(lambda: idle(bench))
        proxy.refuse()
        await until(lambda: bool(running.events("database_trouble")))
        saga_id = await bench.start(saga)
        proxy.refuse(False)
        assert (await bench.settled(saga_id)).status == "COMPLETED"

"""Handlers that are plain functions, and those that do not end in time."""

import asyncio
import contextlib
import threading
import time

from outbox import Command, Retry
from tests.engine.bench import Bench, Note, make_saga, until

ONCE = Retry(attempts=1)


async def _nothing(cmd: Command[Note]) -> None: ...


async def test_plain_functions_run_beside_one_another(bench: Bench) -> None:
    saga, together = make_saga(), threading.Barrier(4, timeout=20)

    @saga.step(nothing_to_undo="it only meets")
    def meet(cmd: Command[Note]) -> str:
        together.wait()
        return threading.current_thread().name

    async with bench.worker(saga, threads=4):
        for saga_id in await bench.start_many(saga, 4):
            assert (await bench.settled(saga_id)).status == "COMPLETED"


async def test_waiting_for_a_thread_is_no_part_of_an_attempt(bench: Bench) -> None:
    saga, runs = make_saga(), []

    @saga.step(nothing_to_undo="it only waits", timeout=0.5, retry=ONCE)
    def dawdle(cmd: Command[Note]) -> None:
        runs.append(cmd.saga_id)
        time.sleep(0.1)  # what a plain function does: it keeps its thread

    async with bench.worker(saga, threads=2) as running:
        sagas = await bench.start_many(saga, 30)
        await bench.all_settled()
        assert running.events("late_result_refused") == []
        assert running.events("worker_exhausted") == []
    assert sorted(runs) == sorted(sagas), "a handler ran after its attempt was over"
    done = await bench.rows("select count(*) from instance where status = 'COMPLETED'")
    assert done == [(30,)]


async def test_a_thread_that_outlives_its_time_is_in_doubt_and_its_result_refused(
    bench: Bench,
) -> None:
    saga, go_on = make_saga(), threading.Event()
    first = saga.step(name="first", retry=ONCE, timeout=0.1)(lambda cmd: go_on.wait(20))
    first.compensation()(_nothing)

    async with bench.worker(saga, threads=4) as running:
        saga_id = await bench.start(saga)
        assert (await bench.settled(saga_id)).status == "FAILED"
        assert running.events("late_result_refused") == []
        go_on.set()
        await until(lambda: bool(running.events("late_result_refused")))
    (refused,) = running.events("late_result_refused")
    assert (refused["saga_id"], refused["step"], refused["attempt"]) == (str(saga_id), "first", 1)
    assert await bench.history(saga_id) == [
        ("action", "first", "in_doubt"), ("compensation", "first", "done"),
    ]  # fmt: skip


async def test_a_worker_with_too_many_stuck_threads_drains_and_ends(bench: Bench) -> None:
    saga, go_on = make_saga(), threading.Event()
    stuck = saga.step(name="stuck", retry=Retry(attempts=9, base=60), timeout=0.1)(
        lambda cmd: go_on.wait(60)
    )
    stuck.compensation()(_nothing)
    try:
        async with bench.worker(saga, threads=4) as running:
            await bench.start_many(saga, 12)
            assert running.task is not None
            async with asyncio.timeout(20):
                await running.task
            assert running.events("worker_exhausted")
    finally:
        go_on.set()
    assert await bench.rows("select 1 from worker") == []
    assert await bench.rows("select 1 from outbox where worker is not null") == []
    ((begun,),) = await bench.rows("select count(*) from transition")
    assert 2 <= begun <= 4
    ((due,),) = await bench.rows("select count(*) from pending where standing = 'due'")
    assert due == 12 - begun


async def test_a_coroutine_that_refuses_cancellation_is_left_behind(bench: Bench) -> None:
    saga, go_on = make_saga(), asyncio.Event()

    async def stubborn(cmd: Command[Note]) -> None:
        while not go_on.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await go_on.wait()

    saga.step(retry=ONCE, timeout=0.1)(stubborn).compensation()(_nothing)
    async with bench.worker(saga) as running:
        saga_id = await bench.start(saga)
        assert (await bench.settled(saga_id)).status == "FAILED"
        go_on.set()
        await until(lambda: bool(running.events("late_result_refused")))
    assert (await bench.errors(saga_id))[0]["type"] == "Timeout"

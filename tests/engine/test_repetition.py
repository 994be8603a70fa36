"""What is asked, or told, more than once."""

import asyncio
from datetime import timedelta

from outbox import Command, NotDone, Retry
from tests.engine.bench import Bench, Note, make_saga

QUICK = Retry(attempts=3, base=0.01, cap=0.02)


async def test_a_reconcile_is_asked_again_after_each_attempt_in_doubt(bench: Bench) -> None:
    saga = make_saga()

    @saga.step(retry=QUICK, timeout=0.1)
    async def charge(cmd: Command[Note]) -> None:
        await asyncio.sleep(60)

    @charge.compensation()
    async def refund(cmd: Command[Note]) -> None:
        raise AssertionError("nothing was charged")

    @charge.reconcile(retry=QUICK)
    async def ask(cmd: Command[Note]) -> NotDone:
        return NotDone()

    await bench.rows("update setting set grace = '0.1 seconds'")
    async with bench.worker(saga):
        status = await bench.settled(await bench.start(saga))
    assert status.status == "FAILED"
    assert (
        await bench.history(status.id)
        == [
            ("action", "charge", "in_doubt"),
            ("reconcile", "charge", "rejected"),
        ]
        * 3
    )
    assert await bench.violations() == []


async def test_a_signal_that_is_repeated_after_the_end_is_a_repetition(bench: Bench) -> None:
    saga = make_saga()
    go = saga.wait_for("go", timeout=timedelta(hours=1))
    async with bench.worker(saga), bench.connection() as connection:
        started = await bench.start(saga)
        assert await bench.client.signal(connection, started, go, key="a") in ("kept", "delivered")
        assert (await bench.settled(started)).status == "COMPLETED"
        assert await bench.client.signal(connection, started, go, key="a") == "repeated"

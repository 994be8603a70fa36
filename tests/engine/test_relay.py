"""What recurs, by pgqueuer's own scheduler: once, whichever worker's turn it is."""

from collections.abc import Iterator
from uuid import UUID

import pytest

from outbox import Command, Retry, Saga
from tests.engine.bench import Bench, Note, make_saga, until
from tests.fixtures import Schema, migrated_schema

EVERY_SECOND = "* * * * * *"


def make_stopping() -> Saga[Note]:
    """A saga that is suspended, since its pivot fails for good with what it did in doubt."""
    saga = make_saga()

    @saga.step(pivot=True, retry=Retry(attempts=1), nothing_to_undo="it fails")
    async def fail(cmd: Command[Note]) -> None:
        if cmd.input.text == "fail":
            raise ValueError("out of order")

    return saga


async def test_an_alert_is_told_once_an_episode_by_two_workers(bench: Bench) -> None:
    saga = make_stopping()
    async with (
        bench.worker(saga, alert_schedule=EVERY_SECOND) as one,
        bench.worker(saga, alert_schedule=EVERY_SECOND) as two,
    ):
        saga_id = await bench.start(saga, "fail")
        await bench.settled(saga_id)

        def alerts() -> list[dict[str, object]]:
            return one.events("alert") + two.events("alert")

        await until(lambda: bool(alerts()))
        await _ticks(bench, 2)
        (alert,) = alerts()
        assert (alert["alert"], alert["saga_id"], alert["step"]) == (
            "suspended", str(saga_id), "fail",
        )  # fmt: skip
        # Tried again and failed again: another episode.
        await bench.rows("select retry(%s, 'try again')", saga_id)
        await until(lambda: len(alerts()) == 2)
        assert [a["saga_id"] for a in alerts()] == [str(saga_id)] * 2
        assert await _open_alerts(bench, saga_id) == 1
        await bench.rows("select resolve(%s, 'FAILED', 'settled by hand')", saga_id)
        await until(lambda: _no_alerts(bench, saga_id))


async def _ticks(bench: Bench, count: int) -> None:
    """Waits until the schedule has run so many times more."""

    async def last() -> object:
        return await bench.rows("select max(last_run) from pgqueuer_schedules")

    for _ in range(count):
        before = await last()

        async def moved(before: object = before) -> bool:
            return await last() != before

        await until(moved, message="the schedule runs")


async def _open_alerts(bench: Bench, saga_id: UUID) -> int:
    ((count,),) = await bench.rows(
        "select count(*) from alert where saga_id = %s and resolved_at is null", saga_id
    )
    return int(count)


async def _no_alerts(bench: Bench, saga_id: UUID) -> bool:
    return await _open_alerts(bench, saga_id) == 0


@pytest.fixture
def neighbour(schema: Schema) -> Iterator[Bench]:
    """Another schema in the same database."""
    with migrated_schema(schema.dsn) as other:
        yield Bench(other)


async def test_old_sagas_are_removed_in_batches_while_a_worker_runs(
    bench: Bench, neighbour: Bench
) -> None:
    saga = make_stopping()
    await bench.register(saga)
    await neighbour.register(saga)
    await bench.start_many(saga, 1200)
    await neighbour.start_many(saga, 5)
    suspended = await bench.start(saga, "fail")
    async with bench.worker(saga), neighbour.worker(saga):
        await bench.all_settled()
        await neighbour.all_settled()
    for place in (bench, neighbour):
        await place.rows("update setting set retention = '1 microsecond'")
    async with bench.worker(saga, retention_schedule=EVERY_SECOND) as running:
        await until(lambda: bool(running.events("sagas_purged")))
        assert sum(e["count"] for e in running.events("sagas_purged")) == 1200
    left = await bench.rows("select id from instance")
    assert left == [(suspended,)], "a living saga is never old"
    assert await bench.rows("select distinct saga_id from transition") == [(suspended,)]
    assert await neighbour.rows("select count(*) from instance") == [(5,)]
    assert await bench.violations() == []


async def test_the_scheduler_comes_back_after_its_connection_was_lost(bench: Bench) -> None:
    saga = make_stopping()
    async with bench.worker(saga, alert_schedule=EVERY_SECOND) as running:
        await _ticks(bench, 1)
        await bench.rows(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where application_name = 'outbox schedules' and datname = current_database()"
        )
        await bench.settled(await bench.start(saga, "fail"))
        await until(lambda: bool(running.events("alert")), 30)

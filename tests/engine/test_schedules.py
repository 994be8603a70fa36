"""Recurring sagas: each tick once, across the changes of the clock and the absences of workers."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import psycopg
import pytest

from outbox import Command, Rules, Saga
from outbox.errors import InputError, NotFoundError
from outbox.relay.cron import ticks_after
from outbox.relay.schedule import Schedules, choose_ticks
from outbox.store.connect import connect
from outbox.store.functions import Functions
from outbox.telemetry import Telemetry
from tests.engine.bench import NEVER, Bench, Note, make_saga
from tests.fixtures import move_clock

BERLIN = "Europe/Berlin"


def at(text: str) -> datetime:
    """An instant in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def ticks(cron: str, zone: str, after: str, count: int) -> list[str]:
    found = islice(ticks_after(cron, zone, at(after)), count)
    return [tick.strftime("%m-%d %H:%M") for tick in found]


@pytest.mark.parametrize(
    ("cron", "zone", "after", "expected"),
    [
        ("30 8 * * *", BERLIN, "2026-01-01", ["01-01 07:30", "01-02 07:30"]),
        ("30 8 * * *", BERLIN, "2026-07-01", ["07-01 06:30", "07-02 06:30"]),
        # In spring 02:30 is skipped: it is 03:30 then, once.
        ("30 2 * * *", BERLIN, "2026-03-28", ["03-28 01:30", "03-29 01:30", "03-30 00:30"]),
        ("30 2,3 * * *", BERLIN, "2026-03-29", ["03-29 01:30", "03-30 00:30", "03-30 01:30"]),
        # In autumn 02:30 comes twice: the first time counts.
        ("30 2 * * *", BERLIN, "2026-10-24T12", ["10-25 00:30", "10-26 01:30"]),
        # Where every hour is meant, each that passes counts.
        ("0 * * * *", BERLIN, "2026-10-24T23:30", ["10-25 00:00", "10-25 01:00", "10-25 02:00"]),
        ("0 * * * *", BERLIN, "2026-03-28T23:30", ["03-29 00:00", "03-29 01:00", "03-29 02:00"]),
        ("*/30 * * * *", BERLIN, "2026-10-25T00:15", ["10-25 00:30", "10-25 01:00", "10-25 01:30"]),
        ("0 12 * * *", "Australia/Lord_Howe", "2026-01-01", ["01-01 01:00", "01-02 01:00"]),
        ("0 9 * * mon", "Asia/Kolkata", "2026-01-01", ["01-05 03:30", "01-12 03:30"]),
        ("0 0 29 2 *", "UTC", "2026-01-01", ["02-29 00:00", "02-29 00:00"]),
    ],
)
def test_a_cron_expression_holds_in_a_zone(
    cron: str, zone: str, after: str, expected: list[str]
) -> None:
    assert ticks(cron, zone, after, len(expected)) == expected


def test_a_tick_is_later_than_what_it_comes_after() -> None:
    (first,) = islice(ticks_after("0 * * * *", "UTC", at("2026-01-01T10:00")), 1)
    assert first == at("2026-01-01T11:00")


@pytest.mark.parametrize(
    ("catch_up", "since", "now", "expected"),
    [
        ("all", "2026-01-01T00:30", "2026-01-01T03:10", [1, 2, 3]),
        ("last", "2026-01-01T00:30", "2026-01-01T03:10", [3]),
        ("none", "2026-01-01T00:30", "2026-01-01T03:10", []),
        ("none", "2026-01-01T00:30", "2026-01-01T03:01", [3]),
        ("last", "2020-01-01T00:30", "2026-01-01T03:10", [3]),
        ("all", "2026-01-01T03:05", "2026-01-01T03:10", []),
    ],
)
def test_what_was_missed_is_caught_up_as_the_schedule_says(
    catch_up: str, since: str, now: str, expected: list[int]
) -> None:
    chosen, until, upcoming = choose_ticks("0 * * * *", "UTC", catch_up, at(since), at(now))
    assert [tick.hour for tick in chosen] == expected
    assert (until, upcoming) == (at(now), at("2026-01-01T04:00"))


def test_a_long_absence_is_caught_up_a_part_at_a_time() -> None:
    chosen, until, _ = choose_ticks("* * * * *", "UTC", "all", at("2026-01-01"), at("2026-01-02"))
    assert (len(chosen), until) == (1000, chosen[-1])


def make_report() -> Saga[Note]:
    saga = make_saga()

    @saga.step(nothing_to_undo="it reads")
    async def report(cmd: Command[Note]) -> None: ...

    return saga


class Relay:
    """What a worker does with schedules, when the test says so."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.told: list[tuple[str, dict[str, Any]]] = []
        telemetry = Telemetry()
        telemetry.hooks.append(lambda event, _level, fields: self.told.append((event, fields)))
        functions = Functions(bench.schema.name)
        dsn = bench.schema.dsn
        self.schedules = Schedules(dsn, functions, telemetry, alerts=NEVER, retention=NEVER)

    async def look(self) -> int:
        async with await connect(self.bench.schema.dsn) as connection:
            return await self.schedules.start_recurring(connection)

    async def keys(self) -> list[str]:
        rows = await self.bench.rows("select key from instance order by key")
        return [key for (key,) in rows]


@pytest.fixture
def relay(bench: Bench) -> Relay:
    return Relay(bench)


@pytest.fixture
def clock(bench: Bench) -> Iterator[Any]:
    """Sets the database's clock."""
    with bench.schema.connect() as connection:

        def set_clock(text: str) -> None:
            now = datetime.now(UTC)
            move_clock(connection, bench.schema.name, at(text) - now)

        yield set_clock


async def set_schedule(bench: Bench, saga: Saga[Note], cron: str, **more: Any) -> None:
    async with bench.connection() as connection:
        await Rules(bench.schema.name).set_schedule(connection, "nightly", saga.type, cron, **more)


async def test_each_tick_starts_one_saga_however_many_look(
    bench: Bench, relay: Relay, clock: Any
) -> None:
    saga = make_report()
    await bench.register(saga)
    clock("2026-03-28T12:00")
    await set_schedule(bench, saga, "30 2 * * *", zone=BERLIN, input={"text": "x"})
    assert await relay.look() == 0
    clock("2026-03-29T01:30:05")
    assert sorted(await asyncio.gather(*(relay.look() for _ in range(6)))) == [0, 0, 0, 0, 0, 1]
    assert await relay.keys() == ["nightly/2026-03-29T01:30:00Z"]
    ((paused, upcoming),) = await bench.rows("select paused, next_tick from schedules")
    assert (paused, upcoming) == (False, at("2026-03-30T00:30"))


async def test_after_an_absence_all_ticks_are_caught_up_once(
    bench: Bench, relay: Relay, clock: Any
) -> None:
    saga = make_report()
    await bench.register(saga)
    clock("2026-01-01T00:30")
    await set_schedule(bench, saga, "0 * * * *", catch_up="all")
    clock("2026-01-01T03:10")
    assert sum(await asyncio.gather(*(relay.look() for _ in range(3)))) == 3
    assert await relay.keys() == [f"nightly/2026-01-01T0{hour}:00:00Z" for hour in (1, 2, 3)]
    assert await relay.look() == 0


async def test_a_pause_is_not_caught_up(bench: Bench, relay: Relay, clock: Any) -> None:
    saga = make_report()
    await bench.register(saga)
    clock("2026-01-01T00:30")
    await set_schedule(bench, saga, "0 * * * *", catch_up="all")
    rules = Rules(bench.schema.name)
    async with bench.connection() as connection:
        await rules.pause_schedule(connection, "nightly")
        clock("2026-01-01T02:30")
        assert await relay.look() == 0
        await rules.resume_schedule(connection, "nightly")
        clock("2026-01-01T03:00:01")
        assert await relay.look() == 1
        assert await relay.keys() == ["nightly/2026-01-01T03:00:00Z"]
        await rules.drop_schedule(connection, "nightly")
        with pytest.raises(NotFoundError, match='there is no schedule "nightly"'):
            await rules.drop_schedule(connection, "nightly")
    clock("2026-01-01T05:00:01")
    assert await relay.look() == 0


async def test_a_start_that_fails_halfway_is_made_again(
    bench: Bench, relay: Relay, clock: Any
) -> None:
    saga = make_report()
    await bench.register(saga)
    clock("2026-01-01T00:30")
    await set_schedule(bench, saga, "0 * * * *")
    clock("2026-01-01T01:00:01")
    await bench.rows("alter table schedule add constraint never check (next_tick is null)")
    with pytest.raises(psycopg.errors.CheckViolation):
        await relay.look()
    assert await relay.keys() == []
    await bench.rows("alter table schedule drop constraint never")
    assert await relay.look() == 1


async def test_a_schedule_that_cannot_start_says_so_and_hinders_no_other(
    bench: Bench, relay: Relay, clock: Any
) -> None:
    saga = make_report()
    await bench.register(saga)
    clock("2026-01-01T00:30")
    await set_schedule(bench, saga, "0 * * * *")
    for name, cron, text in (("a", "61 * * * *", ""), ("b", "0 * * * *", "")):
        await bench.rows(
            "select set_schedule(%s, %s, %s, p_input => jsonb_build_object('text', %s::text))",
            *(name, saga.type, cron, text),
        )
    await bench.rows("update schedule set input = '{\"text\": 1}' where name = 'b'")
    clock("2026-01-01T01:00:01")
    assert await relay.look() == 1
    failed = {f["schedule"] for event, f in relay.told if event == "schedule_failed"}
    assert failed == {"a", "b"}


async def test_schedules_that_make_no_sense_are_refused(bench: Bench) -> None:
    saga = make_report()
    await bench.register(saga)
    for problem, cron, more in (
        ("is not a cron expression", "61 * * * *", {}),
        ("is not a cron expression", "* * * * * *", {}),
        ('there is no time zone "Europe/Atlantis"', "* * * * *", {"zone": "Europe/Atlantis"}),
        ("text", "* * * * *", {"input": {"text": 1}}),
        ("catches up none, the last or all", "* * * * *", {"catch_up": "some"}),
    ):
        with pytest.raises(InputError, match=problem):
            await set_schedule(bench, saga, cron, **more)
    assert await bench.rows("select * from schedules") == []


async def test_a_worker_starts_what_recurs(bench: Bench, clock: Any) -> None:
    saga = make_report()
    await bench.register(saga)
    await set_schedule(bench, saga, "* * * * *")
    await bench.rows("update schedule set last_tick = clock() - interval '90 seconds'")
    relay = Relay(bench)
    async with bench.worker(saga):
        assert await relay.look() == 1
        await bench.all_settled()
    assert await bench.rows("select status from instance") == [("COMPLETED",)]

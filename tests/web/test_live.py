"""What changes is sent to who looks, and costs little."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import orjson
import psycopg
import pytest
from psycopg_pool import PoolTimeout

from outbox.errors import NotFoundError
from outbox.store.connect import connect
from outbox.telemetry import Telemetry
from outbox.web.cached import Cached
from outbox.web.live import Live, Topic
from outbox.web.pages.saga import _Loader as SagaLoader
from tests.waiting import wait_until, wait_until_async
from tests.web.conftest import Browser, Served
from tests.web.world import start


@contextlib.contextmanager
def looking(browser: Browser, path: str) -> Iterator[Iterator[dict[str, str]]]:
    """The fragments that a page is sent."""
    with browser.http.stream("GET", f"/admin/live/{path}") as stream:
        assert stream.status_code == 200
        assert stream.headers["content-type"].startswith("text/event-stream")

        def read() -> Iterator[dict[str, str]]:
            for line in stream.iter_lines():
                if line.startswith("data: "):
                    yield orjson.loads(line.removeprefix("data: "))

        yield read()


def until(fragments: Iterator[dict[str, str]], name: str, words: str) -> str:
    """The first fragment of this name with these words in it."""
    return next(f[name] for f in fragments if words in f.get(name, ""))


def test_a_list_and_a_saga_change_as_the_saga_moves(served: Served, viewer: Browser) -> None:
    worker = served.engine.worker("order", lease=timedelta(hours=1))
    with looking(viewer, "sagas?type=order&q=watched") as rows:
        until(rows, "saga-rows", "No saga fits")
        saga = start(served.engine, "order", "watched", number=1)
        row = until(rows, "saga-rows", "watched")
        assert f'data-id="{saga}" data-status="CREATED"' in row
        (held,) = (one for one in worker.claim() if one.command == saga)
        until(rows, "saga-rows", 'data-status="EXECUTING"')
        with looking(viewer, f"saga/{saga}") as parts:
            first = next(f for f in parts if "saga-head" in f)
            assert {"saga-diagram", "saga-gantt", "saga-timeline", "saga-data"} <= first.keys()
            assert "csrf" not in orjson.dumps(first).decode(), "what is sent to all is nobody's own"
            while held.fence is not None:
                held = worker.say(held, "done")
            head = until(parts, "saga-head", "COMPLETED")
            assert 'data-version-now="' in head
        until(rows, "saga-rows", 'data-status="COMPLETED"')
    # The form that acts is each visitor's own, and is fetched.
    acts = served.browser("ann").get(f"/sagas/{saga}/acts").text
    assert "Run anew" in acts
    assert 'name="csrf"' in acts
    wait_until(lambda: not served.site.live._watched)


def test_a_stream_ends_with_its_session_and_there_are_only_so_many(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outbox.web.pages.live._LOOK_AGAIN", 0.2)
    browser = served.browser("vera")
    with looking(browser, "schedules") as parts:
        other = Browser(served.base)
        other.http.cookies.update(browser.http.cookies)
        other.post("/logout", page="/sagas")
        for _ in parts:
            pass  # until it ends
    # A page on which something always happens is no exception.
    monkeypatch.setattr("outbox.web.pages.live._LOOK_AGAIN", 60)
    busy = served.browser("vera")
    with looking(busy, "sagas?type=order") as parts:
        next(parts)
        other.http.cookies.update(busy.http.cookies)
        other.post("/logout", page="/sagas")
        start(served.engine, "order", "busy-1", number=1)
        assert not [part for part in parts if "busy-1" in str(part)]
    monkeypatch.setattr(served.site.live, "_most", 0)
    assert served.browser("vera").get("/live/sagas").status_code == 503


def test_what_cannot_be_read_takes_nothing_from_the_rest(served: Served, viewer: Browser) -> None:
    with looking(viewer, "type/%00"), looking(viewer, "interventions?type=%00"):
        wait_until(lambda: "live_updates_failed" in dict(served.events))
        with looking(viewer, "sagas?type=order") as rows:
            start(served.engine, "order", "beside-it", number=1)
            until(rows, "saga-rows", "beside-it")
    assert viewer.get("/types/%00").status_code == 400
    assert viewer.get("/interventions", type="\0").status_code == 400


def test_who_is_not_logged_in_is_told_nothing(served: Served) -> None:
    assert served.browser().get("/live/sagas").status_code == 303
    fetched = served.browser().http.get("/admin/sagas", headers={"X-Requested-With": "live"})
    assert fetched.status_code == 401


class Source:
    """Something to watch, without a database: what is read of it, and how often."""

    def __init__(self) -> None:
        self.says = "one"
        self.reads = 0
        self.fails: Exception | None = None
        self.was_read = asyncio.Event()

    async def load(self, connection: Any) -> dict[str, str]:
        self.reads += 1
        self.was_read.set()
        if self.fails is not None:
            raise self.fails
        return {"part": f'{self.says} <time datetime="x" data-age="">{self.reads} s</time>'}

    async def is_read(self, times: int = 1) -> None:
        """Waits until it has been read so many times more."""
        for _ in range(times):
            self.was_read.clear()
            await asyncio.wait_for(self.was_read.wait(), 5)


class Connection:
    """As far as the live updates use one."""

    closed = False


@contextlib.asynccontextmanager
async def lend() -> AsyncIterator[Any]:
    yield Connection()


async def soon(watcher: Any) -> dict[str, str]:
    return dict(await asyncio.wait_for(anext(watcher), 5))


async def test_many_who_look_at_one_thing_are_one_reader_and_nobody_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("outbox.web.live._AFTER_TROUBLE", 0.01)
    source = Source()
    events: list[str] = []
    live = Live(lend, 10, Telemetry(lambda event, *_: events.append(event)))
    topics = [Topic("a", source.load, every=0.01)]
    others = Source()
    watchers = [live.watch([Topic("a", others.load)] if n else topics) for n in range(5)]
    assert ["one" in (await soon(watcher))["part"] for watcher in watchers] == [True] * 5
    assert others.reads == 0

    # An age that has gone on is no change.
    await source.is_read(2)
    assert not watchers[0]._changed
    source.says = "two"
    assert ["two" in (await soon(watcher))["part"] for watcher in watchers] == [True] * 5

    # Who comes later gets what is there; who is slow gets the latest only.
    assert "two" in (await soon(live.watch(topics)))["part"]
    source.says = "three"
    await soon(watchers[0])
    source.says = "four"
    await soon(watchers[0])
    assert "four" in (await soon(watchers[1]))["part"]

    # What is gone, or a database that is away, ends nothing.
    for error in (NotFoundError("gone"), psycopg.OperationalError("away"), TypeError("odd")):
        source.fails = error
        await source.is_read()
    source.fails, source.says = None, "five"
    assert "five" in (await soon(watchers[0]))["part"]
    assert "live_updates_failed" in events

    for watcher in list(live._watchers):
        live.leave(watcher)
    assert live._task is not None
    await asyncio.wait_for(live._task, 15)  # nobody looks: it ends
    assert not live._watched


async def test_a_slow_one_delays_no_other_and_only_so_many_are_read_at_once() -> None:
    let_go, reading, most = asyncio.Event(), [0], [0]

    async def slow(connection: Any) -> dict[str, str]:
        reading[0] += 1
        most[0] = max(most[0], reading[0])
        await let_go.wait()
        reading[0] -= 1
        return {"part": "slow"}

    live = Live(lend, 10, Telemetry(), at_once=2)
    stuck = live.watch([Topic("stuck", slow)])
    quick = Source()
    watcher = live.watch([Topic("quick", quick.load, every=0.01)])
    await soon(watcher)
    await quick.is_read(3)
    assert "one" in (await soon(live.watch([Topic("later", Source().load)])))["part"]
    assert reading == [1]

    waiting = [live.watch([Topic(n, slow)]) for n in range(4)]
    await wait_until_async(lambda: reading[0] == 2)
    live.leave(watcher)  # what nobody looks at is not read on
    let_go.set()
    assert [await soon(one) for one in (stuck, *waiting)] == [{"part": "slow"}] * 5
    assert most == [2]
    await live.close()
    assert not live._reading


class Clock:
    """Goes on only as it is told, while something is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def topic(self, key: str, takes: float, every: float) -> Topic:
        async def load(connection: Any) -> dict[str, str]:
            self.now += takes
            return {key: "read"}

        return Topic(key, load, every)


async def test_reading_takes_a_tenth_of_the_time_at_most() -> None:
    clock = Clock()
    live = Live(lend, 100, Telemetry(), at_once=1, clock=clock)

    async def periods(*topics: Topic) -> list[float]:
        """How long after it was read each is due again, once it is known what all take."""
        watchers = [live.watch([topic]) for topic in topics]
        for watcher in watchers:
            await soon(watcher)
        await wait_until_async(lambda: not live._reading)
        found = [round(live._period(live._watched[topic]), 6) for topic in topics]
        for watcher in watchers:
            live.leave(watcher)
        return found

    slow = clock.topic("slow", 2.0, 0.5)
    assert await periods(slow) == [20.0]
    # Together five quick ones and a slow one take a tenth, and the quick ones lose nothing.
    quick = [clock.topic(f"quick {n}", 0.01, 1.0) for n in range(5)]
    assert await periods(*quick, slow) == [1.0] * 5 + [40.0]
    # Of so many that it is too much each is read more seldom.
    assert await periods(*(clock.topic(f"{n}", 0.01, 1.0) for n in range(50))) == [5.0] * 50


async def test_waiting_for_a_connection_is_not_reading() -> None:
    clock, source, away = Clock(), Source(), [True]

    @contextlib.asynccontextmanager
    async def come_late() -> AsyncIterator[Any]:
        clock.now += 3.0
        if away[0]:
            raise PoolTimeout("the database is away")
        yield Connection()

    events: list[str] = []
    doubts: list[float] = []
    live = Live(
        come_late, 10, Telemetry(lambda event, *_: events.append(event)), clock=clock,
        doubt=lambda: doubts.append(clock.now),
    )  # fmt: skip
    topic = Topic("late", source.load, every=0.5)
    watcher = live.watch([topic])
    await wait_until_async(lambda: live._trouble_until > 0)
    assert (live._trouble_until, source.reads) == (5.0, 0), "nothing is tried for two seconds"
    clock.now = 5.0
    live._stirred.set()
    await wait_until_async(lambda: len(doubts) == 2)
    assert (events, doubts) == (["live_updates_failed"], [3.0, 8.0]), "it is told once"
    clock.now, away[0] = 10.0, False
    live._stirred.set()
    await soon(watcher)
    assert live._watched[topic].due == 13.5
    await live.close()


async def test_a_saga_is_read_whole_until_that_is_kept(served: Served) -> None:
    loader = SagaLoader(served.site, start(served.engine, "order", "kept", number=1))
    async with await connect(served.engine.schema.dsn) as connection:
        whole = await loader.load(connection)
        assert "saga-head" in whole
        assert (await loader.load(connection)).keys() == whole.keys()
        loader.kept(whole)
        assert await loader.load(connection) == {}


async def test_what_takes_long_to_read_is_read_seldom() -> None:
    now, reads = [0.0], [0]

    async def read(connection: Any) -> int:
        reads[0] += 1
        now[0] += 2.0
        return reads[0]

    cached = Cached(read, 1.0, lambda: now[0])
    assert [await cached.get(Connection()) for _ in range(3)] == [1, 1, 1]  # type: ignore[arg-type]
    now[0] += 39
    assert await cached.get(Connection()) == 1  # type: ignore[arg-type]
    now[0] += 2
    assert await cached.get(Connection()) == 2  # type: ignore[arg-type]


async def test_what_cannot_be_read_in_time_is_left_out(served: Served) -> None:
    slow = [True]

    async def read(connection: Any) -> str:
        await connection.execute("select pg_sleep(%s)", (30 if slow[0] else 0,))
        return "read"

    now = [0.0]
    cached = Cached(read, 1.0, lambda: now[0])
    async with await connect(served.engine.schema.dsn) as connection, connection.transaction():
        assert await cached.get(connection, 0.02) is None
        now[0] += 100
        slow[0] = False
        assert await cached.get(connection, 5) == "read"
        now[0] += 100
        slow[0] = True
        assert await cached.get(connection, 0.02) == "read", "the one before is better than none"
        row = await (await connection.execute("select 1")).fetchone()
        assert row == (1,)

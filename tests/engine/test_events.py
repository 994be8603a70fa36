"""Events: stored with the transition, and delivered in order, at least once, to whoever wants
them."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from pgqueuer.core.qm import QueueManager
from pgqueuer.domain.errors import FailingListenerError
from pgqueuer.domain.models import HealthCheckEvent

from outbox import App, Command, Event, Happened, Retry, Saga, Subscriber
from outbox.definition.event import check_event_name
from outbox.errors import DefinitionError
from outbox.relay.events import Relay
from outbox.relay.webhook import NotDeliveredError, Sender
from outbox.store.connect import Connection
from outbox.telemetry import Telemetry
from tests.cli.conftest import environment
from tests.engine.bench import NEVER, Bench, Note, make_saga, until
from tests.engine.telling import saga as telling
from tests.fixtures import Schema
from tests.payments.world import ROOT

QUICK = Retry(attempts=5, base=0.01, cap=0.02)
SOON: dict[str, Any] = {"backoff": 0.01, "backoff_cap": 0.05}


def make_telling(count: int = 3) -> Saga[Note]:
    """A saga whose every step tells of itself."""
    saga = make_saga()
    for place in range(count):

        @saga.step(name=f"step{place}", nothing_to_undo="it only tells")
        async def tell(cmd: Command[Note]) -> None:
            cmd.emit(f"note.{cmd.step}", {"text": cmd.input.text})

    return saga


def counting(into: list[Event]) -> Callable[[Event], Awaitable[None]]:
    async def handle(event: Event) -> None:
        into.append(event)

    return handle


async def names(bench: Bench, saga_id: UUID) -> list[str]:
    rows = await bench.rows("select name from events where saga_id = %s order by number", saga_id)
    return [name for (name,) in rows]


async def none_waits(bench: Bench) -> bool:
    waiting = await bench.rows("select 1 from delivery where status = 'waiting'")
    unrelayed = await bench.rows("select 1 from event where not relayed")
    return not waiting and not unrelayed


async def test_events_reach_a_subscriber_in_order_with_what_it_needs_to_know(bench: Bench) -> None:
    saga, heard, others = make_telling(), list[Event](), list[Event]()
    app = App(
        [saga],
        subscribers=[
            Subscriber("audit", ["note.*"], counting(heard)),
            Subscriber("payments", ["payment.*", "note.step1"], counting(others)),
        ],
    )
    async with bench.worker(app):
        saga_id = await bench.start(saga, "hello", key="k1")
        await until(lambda: len(heard) == 3 and len(others) == 1)
        await until(lambda: none_waits(bench))
    assert [e.name for e in heard] == ["note.step0", "note.step1", "note.step2"]
    assert [e.seq for e in heard] == [1, 2, 3]
    first = heard[0]
    assert (first.saga_id, first.type, first.key, first.step, first.attempt, first.payload) == (
        saga_id, saga.type, "k1", "step0", 1, {"text": "hello"},
    )  # fmt: skip
    assert len({e.id for e in heard}) == 3
    assert others[0].id == heard[1].id
    assert await bench.rows("select * from lane") == []
    assert await bench.rows("select * from pgqueuer where entrypoint like 'subscriber%%'") == []


async def test_a_failing_subscriber_holds_up_its_own_saga_only(bench: Bench) -> None:
    saga, heard = make_telling(), list[tuple[str, str, int]]()

    async def handle(event: Event) -> None:
        heard.append((event.payload["text"], event.name, event.attempt))
        if event.payload["text"] == "0" and event.name == "note.step1" and event.attempt < 4:
            raise ValueError("not yet")

    app = App([saga], subscribers=[Subscriber("picky", ["*"], handle, **SOON)])
    async with bench.worker(app):
        await bench.start_many(saga, 5)
        await until(lambda: len(heard) >= 5 * 3 + 3)
        await until(lambda: none_waits(bench))
    for text in map(str, range(5)):
        told = [(name, attempt) for t, name, attempt in heard if t == text]
        again = [("note.step1", n) for n in (2, 3, 4)] if text == "0" else []
        assert told == [("note.step0", 1), ("note.step1", 1), *again, ("note.step2", 1)]


async def test_what_can_never_be_delivered_is_a_dead_letter_until_it_is_delivered_again(
    bench: Bench,
) -> None:
    saga, heard, broken = make_telling(2), list[str](), [True]

    async def handle(event: Event) -> None:
        if event.name == "note.step0" and broken[0]:
            raise ValueError("out of order")
        heard.append(event.name)

    app = App([saga], subscribers=[Subscriber("picky", ["*"], handle, attempts=3, **SOON)])
    async with bench.worker(app) as running:
        saga_id = await bench.start(saga)
        await until(lambda: heard == ["note.step1"], message="the next event goes on")
        ((subscription, event, attempts, error),) = await bench.rows(
            "select subscription, event, attempts, error from dead_letters"
        )
        assert (subscription, attempts, error) == ("picky", 3, "ValueError: out of order")
        assert [e["saga_id"] for e in running.events("dead_letter")] == [str(saga_id)]
        with pytest.raises(psycopg.Error, match="needs a note"):
            await bench.rows("select redeliver('picky', %s, ' ')", event)
        with pytest.raises(psycopg.Error, match="never on its way"):
            await bench.rows("select redeliver('picky', 4711, 'why not')")
        broken[0] = False
        await bench.rows("select redeliver('picky', %s, 'it is mended')", event)
        await until(lambda: heard == ["note.step1", "note.step0"])
        await until(lambda: none_waits(bench))
    assert await bench.rows("select * from dead_letters") == []
    assert await bench.rows("select event, note from redelivery") == [(event, "it is mended")]


async def test_a_subscriber_that_takes_too_long_is_tried_again(bench: Bench) -> None:
    saga, attempts = make_telling(1), list[int]()

    async def handle(event: Event) -> None:
        attempts.append(event.attempt)
        if event.attempt == 1:
            await asyncio.sleep(60)

    app = App([saga], subscribers=[Subscriber("slow", ["*"], handle, timeout=0.1, **SOON)])
    async with bench.worker(app) as running:
        await bench.start(saga)
        await until(lambda: attempts == [1, 2])
    assert running.events("delivery_failed")[0]["error"] == "not done within 0.1 seconds"


async def test_only_what_is_done_is_told(bench: Bench) -> None:
    saga = make_saga()

    @saga.step(retry=QUICK)
    async def pay(cmd: Command[Note]) -> None:
        cmd.emit("pay.tried", {"attempt": cmd.attempt})
        if cmd.attempt == 1:
            raise ConnectionError("not yet")

    @pay.compensation()
    async def refund(cmd: Command[Note]) -> None:
        cmd.emit("pay.refunded")

    @saga.step(transactional=True, retry=QUICK, nothing_to_undo="rolled back")
    async def post(cmd: Command[Note], tx: Connection) -> None:
        cmd.emit("post.tried", {"attempt": cmd.attempt})
        if cmd.attempt == 1:
            raise ConnectionError("not yet")

    @saga.step(retry=Retry(attempts=1), nothing_to_undo="it fails")
    async def fail(cmd: Command[Note]) -> None:
        cmd.emit("fail.tried")
        raise ValueError("never")

    async with bench.worker(saga):
        saga_id = await bench.start(saga)
        assert (await bench.settled(saga_id)).status == "FAILED"
    found = await bench.rows("select name, payload, step, seq from events order by number")
    assert found == [
        ("pay.tried", {"attempt": 2}, "pay", 2),
        ("post.tried", {"attempt": 2}, "post", 4),
        ("pay.refunded", None, "pay", 6),
    ]
    assert await bench.violations() == []


async def test_a_bulk_handler_tells_for_each_of_its_commands(bench: Bench) -> None:
    saga = make_saga()

    @saga.step(transactional=True, bulk=True, nothing_to_undo="rolled back")
    async def post(cmds: list[Command[Note]], tx: Connection) -> list[Any]:
        for cmd in cmds:
            cmd.emit("posted", cmd.input)
            cmd.emit("posted.twice")
        return [None for _ in cmds]

    async with bench.worker(saga):
        ids = await bench.start_many(saga, 20)
        await bench.all_settled()
    for place, saga_id in enumerate(ids):
        found = await bench.rows(
            "select name, payload from events where saga_id = %s order by number", saga_id
        )
        assert found == [("posted", {"text": str(place)}), ("posted.twice", None)]


async def test_lines_side_by_side_tell_too(bench: Bench) -> None:
    saga = make_saga()

    @saga.step(each=lambda cmd: [1, 2, 3], nothing_to_undo="it only tells")
    async def each(cmd: Command[Note], element: int) -> None:
        cmd.emit("element", element)

    async with bench.worker(saga):
        saga_id = await bench.start(saga)
        await bench.settled(saga_id)
    rows = await bench.rows("select payload from events where saga_id = %s", saga_id)
    assert sorted(payload for (payload,) in rows) == [1, 2, 3]


async def test_an_alert_is_an_event_and_so_is_its_end(bench: Bench) -> None:
    saga, heard = make_saga(), list[Event]()

    @saga.step(pivot=True, retry=Retry(attempts=1), nothing_to_undo="it fails")
    async def fail(cmd: Command[Note]) -> None:
        raise ValueError("out of order")

    app = App([saga], subscribers=[Subscriber("pager", ["alert.*"], counting(heard))])
    async with bench.worker(app, alert_schedule="* * * * * *"):
        saga_id = await bench.start(saga)
        await until(lambda: bool(heard))
        assert (heard[0].name, heard[0].saga_id, heard[0].step) == (
            "alert.suspended", saga_id, "fail",
        )  # fmt: skip
        assert "fail" in heard[0].payload["message"]
        await bench.rows("select resolve(%s, 'FAILED', 'settled by hand')", saga_id)
        await until(lambda: len(heard) == 2)
    assert (heard[1].name, heard[1].payload["alert"], heard[1].payload["status"]) == (
        "alert.resolved", "suspended", "FAILED",
    )  # fmt: skip


async def test_two_workers_share_the_deliveries_and_neither_repeats_one(bench: Bench) -> None:
    saga, heard = make_telling(3), list[tuple[int, UUID, str]]()

    def app(number: int) -> App:
        async def handle(event: Event) -> None:
            heard.append((number, event.saga_id, event.name))
            await asyncio.sleep(0.05)

        return App([saga], subscribers=[Subscriber("shared", ["*"], handle)])

    async with bench.worker(app(1)), bench.worker(app(2)):
        ids = await bench.start_many(saga, 150)
        await until(lambda: len(heard) >= 450, 60)
        await until(lambda: none_waits(bench))
    for saga_id in ids:
        told = [name for _, s, name in heard if s == saga_id]
        assert told == ["note.step0", "note.step1", "note.step2"]
    assert {number for number, _, _ in heard} == {1, 2}


async def test_what_a_worker_did_not_finish_is_delivered_by_another(bench: Bench) -> None:
    saga, began, heard = make_telling(2), list[Event](), list[Event]()

    async def hang(event: Event) -> None:
        began.append(event)
        await asyncio.sleep(3600)

    stuck = App([saga], subscribers=[Subscriber("once", ["*"], hang)])
    good = App([saga], subscribers=[Subscriber("once", ["*"], counting(heard))])
    async with bench.worker(stuck, lease=1.0) as first:
        await bench.start(saga)
        await until(lambda: bool(began))
        await first.crash()
    async with bench.worker(good, lease=1.0):
        await until(lambda: len(heard) == 2)
        await until(lambda: none_waits(bench))
    assert [e.name for e in heard] == ["note.step0", "note.step1"]
    assert heard[0].id == began[0].id, "to be told apart by whoever had it twice"


def _start_telling_worker(bench: Bench) -> "subprocess.Popen[bytes]":
    quick = {"OUTBOX_LEASE": "1", "OUTBOX_ALERT_SCHEDULE": NEVER}
    return subprocess.Popen(
        [sys.executable, "-m", "outbox.cli.worker", "tests.engine.telling:app"],
        env=environment(bench.schema, **quick), cwd=ROOT, stderr=subprocess.DEVNULL,
    )  # fmt: skip


async def test_what_a_killed_worker_was_delivering_is_delivered_again_in_its_order(
    bench: Bench, tmp_path: Path
) -> None:
    heard: list[Event] = []
    process = _start_telling_worker(bench)
    try:
        await bench.register(telling)
        await bench.start(telling, str(tmp_path / "began"))
        await until((tmp_path / "began").exists)
    finally:
        process.kill()
        process.wait()
    app = App([telling], subscribers=[Subscriber("audit", ["*"], counting(heard), timeout=1)])
    async with bench.worker(app, lease=1.0):
        await until(lambda: len(heard) == 2, 30)
        await until(lambda: none_waits(bench))
    assert [e.name for e in heard] == ["note.first", "note.second"]
    assert heard[0].id == (tmp_path / "began").read_text(), "to be told apart by its id"


async def test_events_that_nobody_routed_are_routed_when_a_worker_starts(bench: Bench) -> None:
    saga, heard = make_telling(1), list[Event]()
    app = App([saga], subscribers=[Subscriber("late", ["*"], counting(heard))])
    async with bench.worker(app):
        await bench.settled(await bench.start(saga))
        await until(lambda: len(heard) == 1)
    # As if the worker had died right after the commit.
    await bench.rows("delete from delivery")
    await bench.rows("update event set relayed = false")
    async with bench.worker(app):
        await until(lambda: len(heard) == 2)


async def test_a_job_that_was_lost_is_made_again(bench: Bench) -> None:
    saga, heard = make_telling(1), list[Event]()
    app = App([saga], subscribers=[Subscriber("late", ["*"], counting(heard))])
    await bench.register(saga)
    async with bench.worker(saga):
        await bench.rows("select register_subscriber('late', '{*}', '10s', 3, '1s', '1s')")
        saga_id = await bench.start(saga)
        await bench.settled(saga_id)
        await until(lambda: _has_job(bench))
    await bench.rows("delete from pgqueuer where entrypoint = 'subscriber/late'")
    await bench.rows("update lane set due_at = due_at - interval '1 hour'")
    async with bench.worker(app):
        await until(lambda: len(heard) == 1)


async def _has_job(bench: Bench) -> bool:
    rows = await bench.rows("select 1 from pgqueuer where entrypoint = 'subscriber/late'")
    return bool(rows)


async def test_the_relay_comes_back_after_its_connections_were_lost(bench: Bench) -> None:
    saga, heard = make_telling(1), list[Event]()
    app = App([saga], subscribers=[Subscriber("audit", ["*"], counting(heard))])
    async with bench.worker(app, lease=1.0):
        await bench.start(saga)
        await until(lambda: len(heard) == 1)
        await bench.rows(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where application_name like 'outbox relay%%' and datname = current_database()"
        )
        await bench.start(saga)
        await until(lambda: len(heard) == 2, 30)


async def test_the_first_probe_of_the_ear_is_heard(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe, answers = QueueManager.listener_healthy, list[object]()

    async def soon(manager: QueueManager, timeout: timedelta) -> object:
        try:
            answers.append(await probe(manager, timedelta(seconds=5)))
        except FailingListenerError as error:
            answers.append(error)
        return answers[-1]

    monkeypatch.setattr(QueueManager, "listener_healthy", soon)
    app = App([make_telling(1)], subscribers=[Subscriber("audit", ["*"], counting([]))])
    async with bench.worker(app):
        await until(lambda: bool(answers))
    assert isinstance(answers[0], HealthCheckEvent)


async def test_a_trouble_long_after_another_is_not_waited_for_longer(
    schema: Schema, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    telemetry = Telemetry(lambda _event, _level, fields: waits.append(fields["retry_in"]))
    relay = Relay(
        schema.dsn, schema.dsn, schema.name, {}, telemetry, wake=asyncio.Event(), heartbeat=1.0
    )

    async def breaks(_name: str) -> None:
        if len(waits) == 2:
            monkeypatch.setattr("outbox.relay.events._SETTLED", -1.0)  # it had run for long
        raise psycopg.OperationalError("away")

    running = asyncio.create_task(relay._again_and_again(breaks, "relay"))
    await until(lambda: len(waits) == 4)
    running.cancel()
    assert waits == [0.2, 0.4, 0.2, 0.2]


class Receiver:
    """An HTTP server that answers as it is told, and keeps what it was sent."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.delay = 0.0
        self.url = ""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                headers = {
                    name.lower(): value.strip()
                    for name, _, value in (line.partition(":") for line in head.split("\r\n")[1:])
                }
                body = await reader.readexactly(int(headers["content-length"]))
                self.got.append((headers, body))
                status, more = self.answers.pop(0) if self.answers else (200, {})
                if self.delay:
                    await asyncio.sleep(self.delay)
                lines = [f"HTTP/1.1 {status} X", "content-length: 0"]
                lines += [f"{name}: {value}" for name, value in more.items()]
                writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
                await writer.drain()

    def verified(self, place: int, secret: str) -> dict[str, Any]:
        """What was sent, once its signature was verified by the specification's own words."""
        headers, body = self.got[place]
        assert abs(time.time() - int(headers["webhook-timestamp"])) < 60
        content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        key = base64.b64decode(secret.removeprefix("whsec_"))
        expected = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
        assert f"v1,{expected}" in headers["webhook-signature"].split(" ")
        found: dict[str, Any] = json.loads(body)
        assert found["id"] == headers["webhook-id"]
        return found


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    server = await asyncio.start_server(made, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    yield made
    server.close()


async def subscribe(bench: Bench, url: str, *, attempts: int = 5, timeout: str = "2s") -> str:
    ((secret,),) = await bench.rows(
        "select subscribe('shop', '{note.*}', %s, p_attempts => %s, p_timeout => %s, "
        "p_backoff => '10 milliseconds', p_backoff_cap => '50 milliseconds')",
        *(url, attempts, timeout),
    )
    return str(secret)


async def test_a_webhook_is_signed(bench: Bench, receiver: Receiver) -> None:
    saga = make_telling(2)
    secret = await subscribe(bench, receiver.url + "?token=abc")
    async with bench.worker(saga):
        saga_id = await bench.start(saga, "hello", key="k1")
        await until(lambda: len(receiver.got) == 2)
        await until(lambda: none_waits(bench))
    first, second = receiver.verified(0, secret), receiver.verified(1, secret)
    assert (first["type"], first["data"]) == ("note.step0", {"text": "hello"})
    assert first["saga"] == {
        "id": str(saga_id), "type": saga.type, "version": 1, "key": "k1", "step": "step0", "seq": 1,
    }  # fmt: skip
    assert second["type"] == "note.step1"
    (shown,) = await bench.rows("select * from subscriptions")
    assert secret not in str(shown)
    assert "abc" not in str(shown)


async def test_a_worker_that_cannot_send_says_so_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outbox.relay.events.CAN_SEND", False)
    await bench.rows("select subscribe('shop', '{note.*}', 'http://127.0.0.1:9/')")
    saga = make_telling(1)
    async with bench.worker(saga) as running:
        await until(lambda: bool(running.events("webhooks_not_sent")))
        await bench.settled(await bench.start(saga))
        await until(lambda: bench.rows("select 1 from event where relayed"))
    (told,) = running.events("webhooks_not_sent")
    assert "pip install 'outbox-saga[webhooks]'" in told["message"]


async def test_a_secret_is_changed_without_a_gap(bench: Bench, receiver: Receiver) -> None:
    saga = make_telling(1)
    old = await subscribe(bench, receiver.url)
    new = "whsec_" + base64.b64encode(b"n" * 32).decode()
    assert await bench.rows("select subscribe('shop', '{note.*}', %s, %s)", receiver.url, new) == [
        (new,)
    ]
    async with bench.worker(saga):
        await bench.start(saga)
        await until(lambda: len(receiver.got) == 1)
    assert receiver.verified(0, old) == receiver.verified(0, new)


@pytest.mark.parametrize("trouble", ["500", "302", "timeout"])
async def test_a_receiver_in_trouble_gets_the_same_event_again(
    bench: Bench, receiver: Receiver, trouble: str
) -> None:
    saga = make_telling(2)
    await subscribe(bench, receiver.url, timeout="300 milliseconds")
    if trouble == "timeout":
        receiver.delay = 2.0
    else:
        receiver.answers = [(int(trouble), {"location": "http://127.0.0.1:1/"})] * 2
    async with bench.worker(saga) as running:
        await bench.start(saga)
        await until(lambda: len(receiver.got) >= 2)
        receiver.delay = 0.0
        await until(lambda: none_waits(bench))
    ids = [headers["webhook-id"] for headers, _ in receiver.got]
    assert len(set(ids)) == 2
    assert ids == sorted(ids, key=lambda i: int(i.rsplit("-", 1)[1])), "in order, the first again"
    assert ids.count(ids[0]) >= 2
    expected = "no answer within" if trouble == "timeout" else f"the receiver answered {trouble}"
    assert running.events("delivery_failed")[0]["error"].startswith((expected, "not done within"))


async def test_a_receiver_that_is_gone_ends_its_subscription(
    bench: Bench, receiver: Receiver
) -> None:
    saga = make_telling(3)
    secret = await subscribe(bench, receiver.url)
    receiver.answers = [(410, {})]
    async with bench.worker(saga) as running:
        await bench.start(saga)
        await until(lambda: bool(running.events("subscription_disabled")))
        await until(lambda: none_waits(bench))
        assert len(receiver.got) == 1
        ((event, why),) = await bench.rows(
            "select min(event), min(error) from dead_letters where name = 'note.step0'"
        )
        assert why == "the receiver answered 410"
        with pytest.raises(psycopg.Error, match="is disabled since"):
            await bench.rows("select redeliver('shop', %s, 'try')", event)
        assert await subscribe(bench, receiver.url) == secret, "enabled, by the same secret"
        await bench.rows("select redeliver('shop', %s, 'it is back')", event)
        await until(lambda: len(receiver.got) == 2)


async def test_a_receiver_that_asks_for_time_gets_it(bench: Bench, receiver: Receiver) -> None:
    saga = make_telling(1)
    await bench.rows("select subscribe('shop', '{note.*}', %s)", receiver.url)
    receiver.answers = [(503, {"retry-after": "2"})]
    async with bench.worker(saga):
        await bench.start(saga)
        await until(lambda: len(receiver.got) == 1)
        began = asyncio.get_running_loop().time()
        await until(lambda: len(receiver.got) == 2)
        assert asyncio.get_running_loop().time() - began > 1.5


def an_event() -> Event:
    return Event(
        "1-1", "note.read", {}, UUID(int=1), "note", 1, "k", "tell", 1, datetime.now(UTC), 1
    )


async def test_a_receiver_that_never_ends_its_answer_has_answered() -> None:
    sent = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
                sent += 65536
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server, Sender() as sender:
        await sender.send(an_event(), url, [], timedelta(seconds=10))
    assert sent < 64 * 1024 * 1024, "what it says is not read to its end"


async def test_a_receiver_that_asks_for_ages_is_understood(receiver: Receiver) -> None:
    receiver.answers = [(410, {"retry-after": "9" * 5000}), (503, {"retry-after": "9" * 30})]
    async with Sender() as sender:
        for gone in (True, False):
            with pytest.raises(NotDeliveredError) as refused:
                await sender.send(an_event(), receiver.url, [], timedelta(seconds=5))
            assert refused.value.gone is gone
            assert refused.value.after is not None
            assert refused.value.after > timedelta(days=365)
    assert len(receiver.got) == 2


async def test_impossible_subscriptions_are_refused(bench: Bench) -> None:
    for arguments, why in (
        (("1x", ["*"], "http://a/"), "no name of a subscription"),
        (("shop", [], "http://a/"), "at least one pattern"),
        (("shop", ["a b"], "http://a/"), '"a b" is no pattern'),
        (("shop", ["*"], "ftp://a/"), "none that can be posted to"),
        (("shop", ["*"], "http://me:secret@a/"), "none that can be posted to"),
    ):
        with pytest.raises(psycopg.Error, match=why) as caught:
            await bench.rows("select subscribe(%s, %s::text[], %s)", *arguments)
        assert "secret@" not in str(caught.value)
    with pytest.raises(psycopg.Error, match="whsec_<base64") as caught:
        await bench.rows("select subscribe('shop', '{*}', 'http://a/', 'my-secret')")
    assert "my-secret" not in str(caught.value.diag.message_primary)
    with pytest.raises(psycopg.Error, match='there is no subscription "shop"'):
        await bench.rows("select unsubscribe('shop')")
    await bench.rows("select subscribe('shop', '{*}', 'http://a/')")
    saga = make_telling(1)
    app = App([saga], subscribers=[Subscriber("shop", ["*"], counting([]))])
    with pytest.raises(DefinitionError, match="is a webhook"):
        async with bench.worker(app):
            pass
    assert await bench.rows("select unsubscribe('shop')") == [(0,)]


@pytest.mark.parametrize("name", ["", "a b", ".a", "a..b", "alert.mine", "x" * 101, "ä"])
def test_names_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="event"):
        check_event_name(name)
    cmd = Command(UUID(int=1), "t", 1, "k", "s", "action", Note(), 1)
    with pytest.raises(ValueError, match="event"):
        cmd.emit(name)
    cmd.emit("a.b", {"n": 1})
    assert cmd.emitted == [("a.b", {"n": 1})]
    for payload in (object(), "\x00", "x" * 300_000):
        with pytest.raises(ValueError, match=r"a\.b"):
            cmd.emit("a.b", payload)


def plain(event: Event) -> None: ...


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"name": "1x"}, "no name of a subscriber"),
        ({"patterns": "note.*"}, "list of patterns"),
        ({"patterns": []}, "list of patterns"),
        ({"patterns": ["a b"]}, "no pattern"),
        ({"attempts": 0}, "positive"),
        ({"handler": plain}, "no coroutine function"),
    ],
)
def test_impossible_subscribers_are_refused(changes: dict[str, Any], why: str) -> None:
    good: dict[str, Any] = {"name": "x", "patterns": ["*"], "handler": counting([])}
    assert Subscriber(**good).name == "x"
    with pytest.raises(DefinitionError, match=why):
        Subscriber(**{**good, **changes})


def test_an_app_has_one_subscriber_of_a_name() -> None:
    twice = [Subscriber("x", ["*"], counting([])), Subscriber("x", ["a"], counting([]))]
    with pytest.raises(DefinitionError, match="two subscribers of one name"):
        App([make_telling(1)], subscribers=twice)


async def test_a_reconcile_that_finds_the_effect_tells_of_it(bench: Bench) -> None:
    saga = make_saga()

    @saga.step(timeout=0.2, retry=QUICK, nothing_to_undo="it is asked after")
    async def pay(cmd: Command[Note]) -> None:
        cmd.emit("pay.tried")
        raise ConnectionError("no answer")

    @pay.reconcile(retry=QUICK)
    async def ask(cmd: Command[Note]) -> Happened:
        cmd.emit("pay.found")
        return Happened(None)

    async with bench.worker(saga):
        saga_id = await bench.start(saga)
        assert (await bench.settled(saga_id)).status == "COMPLETED"
    assert await names(bench, saga_id) == ["pay.found"]

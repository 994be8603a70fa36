"""Limits, and what operators do to the sagas that they count."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from psycopg.types.json import Jsonb

from outbox import Saga
from tests.sql.engine import Engine, Worker
from tests.sql.sagas import Order, act, make_order
from tests.sql.test_limits import limit, settle


def branches_that_wait(engine: Engine) -> tuple[UUID, Worker]:
    """A saga both of whose branches wait for their next attempt, from before there was a limit."""
    saga_type = Saga("bare", input=Order)
    with saga_type.parallel("both"):
        saga_type.step(name="left", nothing_to_undo="it reads")(act)
        saga_type.step(name="right", nothing_to_undo="it reads")(act)
    engine.register(saga_type)
    saga, worker = engine.start("bare"), engine.worker("bare", lease=timedelta(days=1))
    worker.say(worker.claim_one(), "branched")
    for held in worker.claim():
        worker.say(held, "retry", no_effect=True, after="1 hour")
    limit(engine, 1, type="bare")
    settle(engine, worker)
    engine.pass_time(3600)
    return saga, worker


def test_branches_that_waited_when_the_limit_came_give_their_slot_back(engine: Engine) -> None:
    _, worker = branches_that_wait(engine)
    statuses = [worker.say(held, "done").status for held in worker.claim()]
    assert statuses == ["EXECUTING", "COMPLETED"]
    assert engine.value("select count(*) from slot") == 0
    assert engine.value("select count(*) from ticket") == 0


def test_branches_that_queue_leave_the_queue_with_their_saga(engine: Engine) -> None:
    saga, worker = branches_that_wait(engine)
    limit(engine, 0, type="bare")
    assert worker.claim() == []
    assert engine.abort(saga) == "FAILED"
    assert engine.value("select count(*) from ticket") == 0


def test_a_queued_saga_moves_with_its_place_in_the_queue(engine: Engine) -> None:
    engine.register(make_order(version=2))
    limit(engine, 0, type="order")
    saga = engine.start("order", version=1)
    assert engine.worker("order").claim() == []
    assert engine.act("move_saga", saga, 2, "version 1 goes") == "CREATED"
    limit(engine, 1, type="order")
    assert [h.command for h in engine.worker("order", version=2).claim()] == [saga]


def test_an_amended_input_counts_under_its_new_key(engine: Engine) -> None:
    """The place at the old key goes to the next one there."""
    limit(engine, 1, type="order", key="number")
    worker = engine.worker("order")
    first, second, third = (engine.start("order", number=1) for _ in range(3))
    (held,) = worker.claim()
    assert held.command == first
    engine.act("amend", second, "it was the other one", Jsonb({"number": 2}))
    (other,) = worker.claim()
    assert other.command == second, "nothing runs at its new key"
    assert worker.say(held, "rejected").status == "FAILED"
    assert [h.command for h in worker.claim()] == [third]


def test_what_is_amended_while_it_waits_queues_at_its_new_key(engine: Engine) -> None:
    limit(engine, 1, type="order", key="number")
    worker = engine.worker("order")
    first, second = (engine.start("order", number=n) for n in (1, 2))
    held = {h.command: h for h in worker.claim()}
    worker.say(held[first], "retry", after="1 minute")
    third = engine.start("order", number=1)
    assert worker.claim() == []
    engine.act("amend", first, "it was the other one", Jsonb({"number": 2}))
    assert [h.command for h in worker.claim()] == [third], "its old key is free"
    engine.pass_time(70)
    worker.heartbeat()
    assert worker.claim() == [], "its new key is not"
    assert worker.say(held[second], "rejected").status == "FAILED"
    assert [h.command for h in worker.claim()] == [first]


def test_what_a_deadline_suspends_in_the_queue_takes_no_slot(engine: Engine) -> None:
    timed = Saga("timed", input=Order, deadline=timedelta(hours=1))
    timed.step(name="first", pivot=True)(act)
    timed.sleep("rest", timedelta(minutes=10))
    engine.register(timed)
    limit(engine, 1, type="timed")
    worker = engine.worker("timed", lease=timedelta(days=1))
    late = engine.start("timed")
    held = worker.say(worker.claim_one(), "done")
    worker.say(held, "waiting", result='{"await": "time", "seconds": 600}')
    engine.start("timed")
    running = worker.claim_one()
    engine.execute(
        "update outbox set deadline = clock() + interval '1 day' where deadline < clock() + '1 day'"
    )
    engine.pass_time(timedelta(minutes=30))
    assert worker.claim() == [], "the late one queues"
    engine.pass_time(timedelta(minutes=29.9))
    engine.execute("update deadline set at = at + interval '1 day' where saga_id <> %s", late)
    engine.pass_time(timedelta(minutes=1))
    engine.reap()
    assert engine.value("select status from outbox where id = %s", late) == "SUSPENDED"
    assert worker.say(running, "rejected").status == "FAILED"
    third = engine.start("timed")
    (held,) = worker.claim()
    assert held.command == third
    assert engine.retry(late) == "EXECUTING"
    assert worker.claim() == []
    assert worker.say(held, "rejected").status == "FAILED"
    assert worker.claim_one().command == late

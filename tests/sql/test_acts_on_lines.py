"""Acts, deaths and deadlines that meet lines side by side, waits, doubts and sub-sagas."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from outbox import Command, Happened, NotDone, Retry, Saga
from tests.sql.engine import Engine, Worker, report
from tests.sql.lined import branched, make_lined
from tests.sql.sagas import MINUTE, Order, act
from tests.waiting import wait_until


async def ask(cmd: Command[Order]) -> Happened | NotDone: ...


def make_asked() -> Saga[Order]:
    """A step that can be asked after, and one behind it."""
    saga = Saga("asked", input=Order)
    step = saga.step(name="pay", retry=Retry(3, 8, MINUTE), timeout=5)(act)
    step.compensation()(act)
    step.reconcile(timeout=5)(ask)
    saga.step(name="last", nothing_to_undo="it reads")(act)
    return saga


def make_late() -> Saga[Order]:
    """Behind its pivot a step that can be undone by hand, a wait, a sleep, and a sub-saga."""
    saga = Saga("late", input=Order, deadline=timedelta(hours=1))
    saga.step(name="first", pivot=True)(act)
    saga.step(name="send", retry=Retry(9, 8, MINUTE), timeout=5)(act).compensation()(act)
    saga.wait_for("answer", timeout=timedelta(hours=3), on_timeout="suspend")
    saga.sleep("rest", timedelta(hours=3))
    saga.run("inner", make_inner(), input=lambda cmd: cmd.input)
    return saga


def make_inner() -> Saga[Order]:
    saga = Saga("inner", input=Order)
    saga.step(name="one")(act).compensation(retry=Retry(2, 8, MINUTE))(act)
    saga.step(name="two")(act).compensation(retry=Retry(1, 8, MINUTE))(act)
    return saga


def make_outer() -> Saga[Order]:
    saga = Saga("outer", input=Order)
    saga.run("inner", make_inner(), input=lambda cmd: cmd.input)
    saga.step(name="last", nothing_to_undo="it reads")(act)
    return saga


def wait_for(worker: Worker, held: Any, **plan: Any) -> None:
    """Reports that a held command waits."""
    worker.say(held, "waiting", result=as_json(plan))


def as_json(plan: dict[str, Any]) -> str:
    return json.dumps({"await" if key == "what" else key: value for key, value in plan.items()})


def die(engine: Engine, *workers: Worker) -> None:
    """These workers are found dead."""
    for worker in workers:
        engine.execute("delete from worker where id = %s", worker.id)
    engine.reap()


def status(engine: Engine, saga: UUID) -> str:
    return str(engine.value("select status from outbox where id = %s", saga))


def undone(engine: Engine, saga: UUID) -> list[str]:
    return [
        row.step
        for row in engine.history(saga)
        if row.kind == "compensation" and row.outcome == "done"
    ]


def test_a_reconcile_that_lost_its_worker_is_asked_again_though_the_saga_is_called_off(
    engine: Engine,
) -> None:
    engine.register(make_asked())
    saga, worker = engine.start("asked"), engine.worker("asked")
    worker.say(worker.claim_one(), "in_doubt", doubt_for=timedelta(seconds=5))
    engine.pass_time(10)
    held = worker.claim_one()
    assert held.kind == "reconcile"
    engine.abort(saga)
    die(engine, worker)
    worker = engine.worker("asked")
    held = worker.claim_one()
    assert held.kind == "reconcile", "nobody knows yet whether there is anything to be undone"
    answer = worker.say(held, "done", result="1")
    assert (answer.status, answer.kind) == ("COMPENSATING", "compensation")
    assert worker.say(answer, "done").status == "FAILED"
    assert undone(engine, saga) == ["pay"]


def late(engine: Engine, step: str) -> tuple[UUID, Worker, Any]:
    """A saga that is at a step behind its pivot, with a deadline in an hour."""
    engine.register(make_inner(), make_late())
    saga = engine.start("late")
    worker = engine.worker("late", lease=timedelta(days=1))
    held: Any = worker.say(worker.claim_one(), "done")
    if step != "send":
        held = worker.say(held, "done")
    return saga, worker, held


def test_what_was_in_doubt_when_its_deadline_passed_is_undone_by_an_abort(engine: Engine) -> None:
    saga, worker, held = late(engine, "send")
    worker.say(held, "retry", after=timedelta(hours=2), doubt_for=timedelta(seconds=5))
    engine.pass_time(timedelta(hours=1.5))
    engine.reap()
    assert status(engine, saga) == "SUSPENDED"
    assert engine.abort(saga) == "COMPENSATING"
    held = worker.claim_one()
    assert (held.kind, held.step, held.in_doubt) == ("compensation", "send", False)
    assert worker.say(held, "done").status == "FAILED"
    assert undone(engine, saga) == ["send"]


@pytest.mark.parametrize("told", ["never", "while it is suspended", "after the retry"])
def test_what_waited_when_its_deadline_passed_waits_on_after_a_retry(
    engine: Engine, told: str
) -> None:
    saga, worker, held = late(engine, "answer")
    wait_for(worker, held, what="signal", seconds=3 * 3600)
    until = engine.row(saga).due_at
    engine.pass_time(timedelta(hours=1.5))
    engine.reap()
    assert status(engine, saga) == "SUSPENDED"
    if told == "while it is suspended":
        assert engine.act("signal", saga, "answer") == "delivered"
    assert engine.retry(saga) == "EXECUTING"
    if told == "after the retry":
        assert engine.act("signal", saga, "answer") == "delivered"
    if told == "never":
        assert worker.claim() == []
        assert engine.row(saga).due_at == until
    else:
        assert worker.claim_one().arrived is not None


def test_a_completed_sub_saga_is_undone_but_for_what_was_undone_before(engine: Engine) -> None:
    engine.register(make_inner(), make_outer())
    saga, worker = engine.start("outer"), engine.worker("outer", "inner")
    wait_for(worker, worker.claim_one(), what="saga", type="inner", key="inner", input={})
    held: Any = worker.claim_one()
    child = held.command
    held = worker.say(held, "done")
    engine.abort(child)
    held = worker.say(held, "done")
    assert (held.kind, held.step) == ("compensation", "two")
    held = worker.say(held, "done")
    assert worker.say(held, "rejected").status == "SUSPENDED"
    engine.resolve(child, "COMPLETED")
    held = worker.say(worker.claim_one(), "done")
    assert held.step == "last"
    held = worker.say(held, "rejected")
    assert held.kind == "compensation"
    wait_for(worker, held, what="saga")
    held = worker.claim_one()
    assert (held.command, held.step) == (child, "one"), "two is undone already"
    assert worker.say(held, "done").status == "FAILED"
    assert undone(engine, child) == ["two", "one"]
    assert worker.say(worker.claim_one(), "done").status == "FAILED"
    assert engine.instance(saga).status == "FAILED"


def test_an_abort_that_waited_for_a_group_to_begin_lets_no_branch_be_lost(engine: Engine) -> None:
    """The branches are there once the abort has its locks, and might be claimed while it looks."""
    engine.register(make_lined())
    saga, worker = engine.start("lined"), engine.worker("lined")
    held = worker.say(worker.claim_one(), "done")
    with engine.schema.connect(autocommit=False) as group, engine.schema.connect() as operator:
        worker.advance(report(held, "branched"), connection=group)
        aborting = threading.Thread(
            target=operator.execute, args=("select abort(%s, 'stop it')", (saga,))
        )
        with engine.schema.connect(autocommit=False) as claim:
            with engine.schema.connect(autocommit=False) as clerk:
                clerk.execute("lock table act in share mode")
                aborting.start()
                wait_until(lambda: awaited(engine, operator) is not None)
                group.commit()
                wait_until(lambda: awaited(engine, operator) == "relation")
                claimed = worker.claim(connection=claim)
            waits = ("transactionid", "tuple")
            wait_until(lambda: not aborting.is_alive() or awaited(engine, operator) in waits)
        aborting.join()
    assert [worker.say(held, "done").verdict for held in claimed] in ([], ["applied", "applied"])


def awaited(engine: Engine, connection: psycopg.Connection[Any]) -> str | None:
    """What a connection waits for a lock of."""
    found: str | None = engine.value(
        "select wait_event from pg_stat_activity where pid = %s and wait_event_type = 'Lock'",
        connection.info.backend_pid,
    )
    return found


@contextmanager
def somebody_holds(engine: Engine, line: UUID) -> Iterator[None]:
    """Whoever would wait for this line fails soon."""
    engine.execute("set lock_timeout = '1s'")
    with engine.schema.connect(autocommit=False) as other:
        other.execute("select from outbox where id = %s for no key update", (line,))
        yield
    engine.execute("set lock_timeout = '30s'")


def test_a_sweep_waits_for_nobody_who_holds_the_parent_of_what_it_takes(engine: Engine) -> None:
    engine.register(make_inner(), make_outer())
    saga, worker = engine.start("outer"), engine.worker("outer", "inner")
    wait_for(worker, worker.claim_one(), what="saga", type="inner", key="inner", input={})
    child = worker.claim_one().command
    engine.execute("update definition_step set undo = false, nothing_to_undo = 'it reads'")
    engine.abort(child)
    with somebody_holds(engine, saga):
        die(engine, worker)
    assert engine.instance(child).status is None
    engine.reap()
    assert engine.instance(child).status == "FAILED"


def test_a_deadline_waits_for_nobody_who_holds_a_line(engine: Engine) -> None:
    saga, worker, held = late(engine, "answer")
    held = worker.say(worker.say(held, "done"), "done")
    wait_for(worker, held, what="saga", type="inner", key="inner", input={})
    child = engine.value("select saga_id from child")
    engine.pass_time(timedelta(hours=1.5))
    with somebody_holds(engine, child):
        engine.reap()
    assert status(engine, saga) == "EXECUTING"
    engine.reap()
    assert status(engine, saga) == "SUSPENDED"


def test_a_saga_closed_by_hand_at_a_branch_passes_the_audit(engine: Engine) -> None:
    saga, worker = branched(engine)
    worker.say(worker.claim(1)[0], "rejected")
    assert engine.resolve(saga, "COMPLETED") == "COMPLETED"
    assert engine.audit() == []


def test_an_advance_holds_up_nobody_who_has_locked_what_it_will_wait_for(engine: Engine) -> None:
    """A sub-saga's step and a branch of the saga that waits for it, told of together."""
    outer = Saga("outer", input=Order)
    with outer.parallel("both"):
        outer.run("inner", make_inner(), input=lambda cmd: cmd.input)
        outer.step(name="beside", nothing_to_undo="it reads")(act)
    engine.register(make_inner(), outer)
    saga, worker = engine.start("outer"), engine.worker("outer", "inner")
    worker.say(worker.claim_one(), "branched")
    branches: dict[str, Any] = {held.step: held for held in worker.claim()}
    wait_for(worker, branches["inner"], what="saga", type="inner", key="inner", input={})
    child = worker.claim_one()
    with (
        engine.schema.connect(autocommit=False) as other,
        engine.schema.connect(autocommit=False) as telling,
    ):
        other.execute("select from outbox where id = %s for no key update", (saga,))
        told = [report(child, "done"), report(branches["beside"], "done")]
        advancing = threading.Thread(
            target=worker.advance, args=told, kwargs={"connection": telling}
        )
        advancing.start()
        wait_until(lambda: awaited(engine, telling) is not None)
        other.execute("select from outbox where id = %s for no key update nowait", (child.command,))
        other.commit()
        advancing.join()


def test_an_act_on_many_that_meets_a_ring_of_waits_begins_anew(engine: Engine) -> None:
    first, second = engine.start(), engine.start()
    with (
        engine.schema.connect(autocommit=False) as advance,
        engine.schema.connect() as operator,
    ):
        lock = "select from outbox where id = %s for no key update"
        # The operator's is the one that Postgres ends.
        operator.execute("set deadlock_timeout = '2s'")
        advance.execute("set deadlock_timeout = '20s'")
        advance.execute(lock, (second,))
        found: list[Any] = []
        acting = threading.Thread(
            target=lambda: found.extend(
                operator.execute(
                    "select problem from act_many('cancel', 'why', '{\"type\": \"order\"}')"
                ).fetchall()
            )
        )
        acting.start()
        wait_until(lambda: awaited(engine, operator) is not None)
        advance.execute(lock, (first,))
        advance.commit()
        acting.join()
    assert found == [(None,), (None,)]


def test_a_step_that_was_not_done_counts_its_attempts_on_after_a_retry(engine: Engine) -> None:
    saga_type = Saga("asked", input=Order)
    saga_type.step(name="first", pivot=True)(act)
    step = saga_type.step(name="pay", retry=Retry(1, 8, MINUTE), timeout=5)(act)
    step.reconcile(timeout=5)(ask)
    engine.register(saga_type)
    saga, worker = engine.start("asked"), engine.worker("asked")
    worker.say(worker.say(worker.claim_one(), "done"), "in_doubt", doubt_for=timedelta(seconds=5))
    engine.pass_time(10)
    assert worker.say(worker.claim_one(), "rejected").status == "SUSPENDED"
    engine.retry(saga)
    held = worker.claim_one()
    assert (held.kind, held.attempt) == ("action", 2)
    assert worker.say(held, "done").status == "COMPLETED"


def test_a_group_that_was_skipped_before_it_began_passes_the_audit(engine: Engine) -> None:
    saga_type = Saga("grouped", input=Order)
    with saga_type.parallel("both"):
        saga_type.step(name="left", nothing_to_undo="it reads")(act)
        saga_type.step(name="right", nothing_to_undo="it reads")(act)
    saga_type.step(name="last", nothing_to_undo="it reads")(act)
    engine.register(saga_type)
    saga, worker = engine.start("grouped"), engine.worker("grouped")
    worker.claim_one()
    die(engine, worker)
    assert engine.act("skip", saga, "neither is needed") == "EXECUTING"
    worker = engine.worker("grouped")
    assert worker.say(worker.claim_one(), "done").status == "COMPLETED"
    assert engine.audit() == []


def test_a_retry_starts_another_sub_saga_though_a_worker_died_over_the_first(
    engine: Engine,
) -> None:
    outer = Saga("outer", input=Order)
    outer.step(name="first", pivot=True)(act)
    outer.run("inner", make_inner(), input=lambda cmd: cmd.input)
    engine.register(make_inner(), outer)
    saga, worker = engine.start("outer"), engine.worker("outer", "inner")
    worker.say(worker.claim_one(), "done")
    die(engine, worker)
    worker = engine.worker("outer", "inner")
    plan = {"what": "saga", "type": "inner", "input": {}}
    held = worker.claim_one()
    wait_for(worker, held, key="inner", **plan)
    assert worker.say(worker.claim_one(), "rejected").status == "FAILED"
    assert worker.say(worker.claim_one(), "rejected").status == "SUSPENDED"
    engine.retry(saga)
    assert worker.claim_one().revision == held.revision + 1, "its key is another one"

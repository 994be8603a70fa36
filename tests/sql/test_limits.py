"""Limits: how many sagas of a type are let in, and what counts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psycopg
import pytest

from outbox import Limit, Rate, Saga
from outbox.definition.registry import describe_limits
from outbox.errors import DefinitionError
from tests.sql.engine import Engine, Worker
from tests.sql.sagas import Order, make_order
from tests.waiting import wait_until


def limit(engine: Engine, amount: int, **more: object) -> None:
    engine.execute(
        "select set_limit(%s, %s, %s, p_key => %s, p_per => %s::interval, p_counts_waiting => %s)",
        *(more.get("type", "single"), more.get("name", "all"), amount),
        *(more.get("key"), more.get("per"), more.get("counts_waiting", False)),
    )


def running(engine: Engine) -> int:
    return int(engine.value("select count(*) from outbox where worker is not null"))


def settle(engine: Engine, worker: Worker) -> None:
    """Lets the transactions end, those of other tests too, that may not know of the limits."""

    def settled() -> bool:
        engine.pass_time(1)
        worker.heartbeat()
        worker.claim()
        return bool(engine.value("select swept_at is null from gate"))

    wait_until(settled)


@pytest.fixture
def worker(engine: Engine) -> Worker:
    return engine.worker("single")


def test_so_many_run_at_once_and_the_next_when_one_has_ended(
    engine: Engine, worker: Worker
) -> None:
    limit(engine, 3)
    sagas = [engine.start("single") for _ in range(5)]
    first = worker.claim()
    assert [held.command for held in first] == sagas[:3]
    assert worker.claim() == []
    worker.say(first[0], "done")
    assert [held.command for held in worker.claim()] == [sagas[3]]
    assert worker.claim() == []


def test_each_worker_sees_what_the_others_run(engine: Engine, worker: Worker) -> None:
    limit(engine, 3)
    for _ in range(5):
        engine.start("single")
    other = engine.worker("single")
    assert (len(worker.claim(2)), len(other.claim()), len(other.claim())) == (2, 1, 0)


def test_a_key_has_a_limit_of_its_own(engine: Engine, worker: Worker) -> None:
    limit(engine, 1, key="number")
    sagas = [engine.start("single", number=n) for n in (1, 1, 2, 1, 2, 3)]
    first = worker.claim()
    assert [held.command for held in first] == [sagas[0], sagas[2], sagas[5]]
    assert worker.claim() == []
    worker.say(first[0], "done")
    assert [held.command for held in worker.claim()] == [sagas[1]]
    worker.say(first[1], "rejected")
    assert [held.command for held in worker.claim()] == [sagas[4]]


def test_what_has_nothing_at_the_path_is_not_limited(engine: Engine, worker: Worker) -> None:
    limit(engine, 1, key="number")
    for _ in range(3):
        engine.start("single")
    assert len(worker.claim()) == 3


def test_limits_hold_together(engine: Engine, worker: Worker) -> None:
    limit(engine, 3)
    limit(engine, 2, name="number", key="number")
    sagas = [engine.start("single", number=n) for n in (1, 1, 1, 2, 2, 2)]
    held = worker.claim()
    assert [h.command for h in held] == [sagas[0], sagas[1], sagas[3]]
    worker.say(held[2], "done")
    assert [h.command for h in worker.claim()] == [sagas[4]]


def test_a_rate_lets_so_many_begin_in_a_period(engine: Engine, worker: Worker) -> None:
    limit(engine, 2, per="10 seconds")
    settle(engine, worker)
    for _ in range(5):
        engine.start("single")
    held = worker.claim()
    assert len(held) == 2
    for each in held:
        worker.say(each, "done")
    assert worker.claim() == []
    wait = worker.doze()
    assert wait is not None
    assert 9 < wait.total_seconds() <= 10
    engine.pass_time(10.1)
    assert len(worker.claim()) == 2
    assert worker.claim() == []


def test_a_limit_is_raised_and_lowered_while_sagas_live(engine: Engine, worker: Worker) -> None:
    limit(engine, 1)
    for _ in range(8):
        engine.start("single")
    assert len(worker.claim()) == 1
    limit(engine, 5)
    wait = worker.doze()
    assert wait is not None
    assert wait.total_seconds() <= 0
    held = worker.claim()
    assert len(held) == 4
    limit(engine, 2)
    for each in held[:3]:
        worker.say(each, "done")
        assert worker.claim() == []
    worker.say(held[3], "done")
    assert len(worker.claim()) == 1


def test_a_keyed_limit_is_raised_for_what_waits_already(engine: Engine, worker: Worker) -> None:
    limit(engine, 1, key="number")
    for _ in range(4):
        engine.start("single", number=1)
    assert len(worker.claim()) == 1
    limit(engine, 3, key="number")
    assert len(worker.claim()) == 2


def test_what_runs_when_the_first_limit_comes_counts(engine: Engine, worker: Worker) -> None:
    for _ in range(6):
        engine.start("single")
    held = worker.claim(3)
    limit(engine, 3)
    assert worker.claim() == []
    assert worker.say(held[0], "done").verdict == "applied"
    assert worker.claim() == [], "nobody tells of its end"
    wait = worker.doze()
    assert wait is not None
    assert wait.total_seconds() <= 0.5, "but it is looked for"
    engine.pass_time(0.5)
    assert len(worker.claim()) == 1
    for each in held[1:]:
        worker.say(each, "done")
    engine.pass_time(0.5)
    assert len(worker.claim()) == 2
    settle(engine, worker)


def test_without_a_limit_everything_goes_on(engine: Engine, worker: Worker) -> None:
    limit(engine, 1)
    for _ in range(4):
        engine.start("single")
    held = worker.claim()
    engine.execute("select drop_limit('single', 'all')")
    assert len(worker.claim()) == 3
    worker.say(held[0], "done")
    for table in ("ticket", "slot", "gate", "knock"):
        assert engine.value(f"select count(*) from {table}") == 0  # noqa: S608


def test_limits_that_make_no_sense_are_refused(engine: Engine) -> None:
    for problem, call in {
        'unknown saga type "nothing"': "set_limit('nothing', 'x', 1)",
        "the amount is -1": "set_limit('single', 'x', -1)",
        "is no name of a limit": "set_limit('single', 'a/b', 1)",
        "so it counts starts": "set_limit('single', 'x', 1, 'number', '1 second')",
        'saga type "single" has no limit "x"': "drop_limit('single', 'x')",
    }.items():
        with pytest.raises(psycopg.Error, match=problem):
            engine.execute(f"select {call}")
    assert engine.value("select count(*) from gate") == 0


def test_a_suspended_saga_gives_its_slot_back_and_queues_for_it_again(engine: Engine) -> None:
    limit(engine, 1, type="order")
    worker = engine.worker()
    first, second = engine.start(), engine.start()
    held = worker.do(worker.claim_one(), until="mail")
    worker.say(held, "rejected")
    assert engine.row(first).status == "SUSPENDED"
    (other,) = worker.claim()
    assert other.command == second
    engine.retry(first)
    assert worker.claim() == []
    held = worker.do(other, until="archive")
    worker.say(held, "done")
    assert worker.claim_one().command == first


def test_what_has_begun_goes_on_before_anything_begins(engine: Engine) -> None:
    limit(engine, 1, type="order")
    worker = engine.worker()
    first, second, third = engine.start(), engine.start(), engine.start(key="third")
    worker.say(worker.do(worker.claim_one(), until="mail"), "rejected")
    other = worker.claim_one()
    assert other.command == second
    engine.retry(first)
    assert worker.claim() == []
    worker.say(worker.do(other, until="archive"), "done")
    held = worker.claim_one()
    assert held.command == first
    worker.say(worker.do(held, until="archive"), "done")
    assert worker.claim_one().command == third


def test_a_limit_may_count_what_waits(engine: Engine) -> None:
    limit(engine, 1, type="order", counts_waiting=True)
    worker = engine.worker()
    first, _ = engine.start(), engine.start()
    worker.say(worker.do(worker.claim_one(), until="mail"), "rejected")
    assert worker.claim() == []
    engine.retry(first)
    assert worker.claim_one().command == first


def test_one_of_two_limits_counts_what_waits(engine: Engine) -> None:
    limit(engine, 2, type="order", counts_waiting=True)
    limit(engine, 1, type="order", name="busy")
    worker = engine.worker()
    first, second, _ = engine.start(), engine.start(), engine.start()
    worker.say(worker.do(worker.claim_one(), until="mail"), "rejected")
    other = worker.claim_one()
    assert other.command == second
    assert worker.claim() == [], "the third is one too many"
    engine.retry(first)
    assert worker.claim() == [], "one is busy"
    worker.say(worker.do(other, until="archive"), "done")
    assert worker.claim_one().command == first


def test_a_retry_keeps_its_slot(engine: Engine, worker: Worker) -> None:
    limit(engine, 1)
    first, _ = engine.start("single"), engine.start("single")
    worker.say(worker.claim_one(), "retry")
    assert worker.claim() == []
    engine.pass_time(61)
    assert worker.claim_one().command == first


def test_a_dead_workers_sagas_keep_their_slots_and_lose_none(
    engine: Engine, worker: Worker
) -> None:
    limit(engine, 2)
    sagas = [engine.start("single") for _ in range(4)]
    worker.claim()
    engine.pass_time(60)
    other = engine.worker("single")
    assert other.claim() == []
    assert len(engine.reap()) == 2
    held = other.claim()
    assert {h.command for h in held} == set(sagas[:2])
    assert other.claim() == []
    for each in held:
        other.say(each, "done")
    assert {h.command for h in other.claim()} == set(sagas[2:])
    assert engine.value("select count(*) from slot") == 2


def test_an_aborted_start_leaves_the_queue(engine: Engine, worker: Worker) -> None:
    limit(engine, 1)
    first, second, third = (engine.start("single") for _ in range(3))
    held = worker.claim_one()
    assert held.command == first
    assert engine.abort(second) == "FAILED"
    worker.say(held, "done")
    assert worker.claim_one().command == third
    assert engine.value("select count(*) from ticket") == 1


def test_the_queue_goes_by_priority_and_age(engine: Engine, worker: Worker) -> None:
    limit(engine, 1)
    first = engine.start("single")
    held = worker.claim_one()
    assert held.command == first
    low = engine.start("single")
    worker.claim()
    high = engine.value("select start('single', '{}', p_priority => 5)")
    engine.pass_time(6 * 60)
    late = engine.value("select start('single', '{}', p_priority => 5)")
    order = []
    for _ in range(3):
        worker.heartbeat()
        worker.say(held, "done")
        held = worker.claim_one()
        order.append(held.command)
    assert order == [high, low, late]


def test_a_version_that_nobody_runs_takes_no_slot(engine: Engine) -> None:
    engine.register(make_order(version=2))
    limit(engine, 1, type="order")
    worker = engine.worker()
    newer, older = engine.start(version=2), engine.start(version=1)
    assert worker.claim_one().command == older
    engine.abort(newer)


def test_the_views_say_what_is_taken_and_who_waits(engine: Engine, worker: Worker) -> None:
    limit(engine, 1, key="number")
    for n in (1, 1, 2):
        engine.start("single", number=n)
    worker.claim()
    (row,) = engine.rows("select * from limits")
    assert (row.type, row.amount, row.key, row.taken, row.queued, row.set_by) == (
        *("single", 1, "number", 2, 1, "SQL"),
    )
    assert [row.full for row in engine.rows("select * from queued")] == ["all/1"]


@pytest.mark.parametrize(
    ("damage", "invariant"),
    [
        ("delete from slot", "a saga that runs holds its slots"),
        ("delete from outbox; delete from instance", "a ticket is a live saga's"),
        ("delete from ticket", "a slot is a live saga's"),
        (
            "update ticket set state = 'queued'",
            "a command of a type with limits is held once it was let in",
        ),
    ],
)
def test_what_the_limits_count_is_audited(
    engine: Engine, worker: Worker, damage: str, invariant: str
) -> None:
    limit(engine, 1)
    settle(engine, worker)
    engine.start("single")
    worker.claim()
    assert engine.audit() == []
    engine.execute(damage)
    engine.audits_at_end = False
    assert invariant in {row[1] for row in engine.audit()}


def declared(engine: Engine, *limits: Limit | Rate, version: int = 1) -> list[tuple[object, ...]]:
    """The limits after a program has declared some."""
    saga = Saga("single", input=Order, version=version, limits=limits)
    engine.execute("select declare_limits('single', %s, %s::jsonb)", version, describe_limits(saga))
    return engine.connection.execute("select name, amount from limits order by name").fetchall()


def test_a_program_declares_limits_and_changes_them(engine: Engine, worker: Worker) -> None:
    assert declared(engine, Limit(2), Rate(9, timedelta(seconds=1))) == [("all", 2), ("rate", 9)]
    for _ in range(5):
        engine.start("single")
    assert len(worker.claim()) == 2
    assert declared(engine, Limit(3)) == [("all", 3)]
    assert len(worker.claim()) == 1
    assert declared(engine) == []
    assert len(worker.claim()) == 2
    assert engine.value("select count(*) from gate") == 0


def test_what_was_set_from_sql_comes_first(engine: Engine) -> None:
    declared(engine, Limit(2), Limit(1, per="number"))
    limit(engine, 7)
    engine.execute("select drop_limit('single', 'number')")
    assert declared(engine, Limit(3), Limit(4, per="number")) == [("all", 7)]


def test_an_older_version_does_not_change_the_limits_of_a_newer(engine: Engine) -> None:
    engine.value(
        "select register('single', 2, steps, input_schema) from definition where type = 'single'"
    )
    declared(engine, Limit(5), version=2)
    assert declared(engine, Limit(2), version=1) == [("all", 5)]


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        ([Limit(-1)], "would let no saga begin"),
        ([Rate(1, timedelta())], "a period that is not positive"),
        ([Limit(1), Limit(2)], 'two limits are named "all"'),
        ([Limit(1, per="a b")], "needs a name"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(
    limits: list[Limit | Rate], problem: str
) -> None:
    with pytest.raises(DefinitionError, match=problem):
        Saga("single", input=Order, limits=limits)


def test_a_claim_that_waits_for_the_gate_keeps_no_heartbeat_waiting(engine: Engine) -> None:
    limit(engine, 1)
    saga, worker = engine.start("single"), engine.worker("single")
    engine.execute("update worker set idle = true")
    with (
        engine.schema.connect(autocommit=False) as other,
        engine.schema.connect() as claiming,
        ThreadPoolExecutor(1) as pool,
    ):
        other.execute("select set_limit('single', 'all', 2)")
        claimed = pool.submit(worker.claim, 1, claiming)
        wait_until(lambda: engine.is_waiting(claiming))
        engine.execute("set statement_timeout = '5s'")
        worker.heartbeat()
        other.commit()
        assert [held.command for held in claimed.result(20)] == [saga]

"""Starts that come later, first, at most once in a period, or once a burst is over."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.sql.engine import Engine, Worker


@pytest.fixture
def worker(engine: Engine) -> Worker:
    return engine.worker("single")


def once_per(engine: Engine, key: str = "k", period: str = "1 hour", **input: Any) -> Any:
    (row,) = engine.rows(
        "select * from start_once_per('single', %s, %s, %s)", Jsonb(input), key, period
    )
    return row


def debounced(engine: Engine, number: int, key: str = "k", longest: str | None = None) -> Any:
    (row,) = engine.rows(
        "select * from start_debounced('single', %s, %s, '10 seconds', %s)",
        *(Jsonb({"number": number}), key, longest),
    )
    return row


def at_once(engine: Engine, statement: str, times: int) -> list[tuple[Any, ...]]:
    """What a statement says to as many sessions as it is told at the same time."""
    barrier = threading.Barrier(times)
    found: list[tuple[Any, ...]] = []

    def call() -> None:
        with engine.schema.connect() as connection:
            barrier.wait()
            row = connection.execute(statement.encode()).fetchone()
            assert row is not None
            found.append(row)

    threads = [threading.Thread(target=call) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_a_higher_priority_is_claimed_first(engine: Engine, worker: Worker) -> None:
    low = engine.start("single")
    high = engine.value("select start('single', '{}', p_priority => 3)")
    assert worker.claim_one().command == high
    assert worker.claim_one().command == low


def test_what_has_waited_long_enough_comes_before_a_higher_priority(
    engine: Engine, worker: Worker
) -> None:
    low = engine.start("single")
    engine.pass_time(timedelta(minutes=3, seconds=1))
    worker.heartbeat()
    engine.value("select start('single', '{}', p_priority => 3)")
    assert worker.claim_one().command == low


def test_a_priority_is_no_reason_to_begin_before_the_time(engine: Engine, worker: Worker) -> None:
    engine.value(
        "select start('single', '{}', p_priority => 100, p_due_at => clock() + interval '1 minute')"
    )
    assert worker.claim() == []
    engine.pass_time(61)
    assert len(worker.claim()) == 1


def test_a_priority_step_is_a_setting(engine: Engine, worker: Worker) -> None:
    engine.execute("update setting set priority_step = '1 hour'")
    engine.start("single")
    engine.pass_time(timedelta(minutes=50))
    worker.heartbeat()
    high = engine.value("select start('single', '{}', p_priority => 1)")
    assert worker.claim_one().command == high


def test_a_negative_priority_is_refused(engine: Engine) -> None:
    with pytest.raises(psycopg.Error, match="the priority is -1, but it is 0"):
        engine.execute("select start('single', '{}', p_priority => -1)")


def test_a_key_starts_once_in_a_period(engine: Engine) -> None:
    first = once_per(engine, number=1)
    engine.pass_time(timedelta(minutes=59))
    again = once_per(engine, number=2)
    assert (first.created, again.created, again.id, again.key) == (
        *(True, False, first.id, first.key),
    )
    assert once_per(engine, key="other").created
    engine.pass_time(timedelta(minutes=2))
    later = once_per(engine, number=3)
    assert later.created
    assert later.id != first.id
    assert engine.instance(later.id).key.startswith("k/")


def test_of_many_starts_at_once_one_counts(engine: Engine) -> None:
    found = at_once(engine, "select * from start_once_per('single', '{}', 'k', '1 hour')", 8)
    assert len({row[0] for row in found}) == 1
    assert sorted(row[2] for row in found) == [False] * 7 + [True]


def test_a_start_that_was_rolled_back_does_not_count(engine: Engine) -> None:
    with engine.schema.connect(autocommit=False) as other:
        other.execute("select * from start_once_per('single', '{}', 'k', '1 hour')")
        other.rollback()
    assert once_per(engine).created


def test_a_burst_becomes_one_saga_with_the_last_input(engine: Engine, worker: Worker) -> None:
    first = debounced(engine, 1)
    for number in (2, 3):
        engine.pass_time(8)
        again = debounced(engine, number)
        assert (again.created, again.id, again.key) == (False, first.id, first.key)
    assert worker.claim() == []
    engine.pass_time(8)
    assert worker.claim() == []
    worker.heartbeat()
    engine.pass_time(3)
    held = worker.claim_one()
    assert (held.command, held.input) == (first.id, {"number": 3})
    assert debounced(engine, 4).created, "it has begun"


def test_a_burst_that_does_not_end_is_cut(engine: Engine, worker: Worker) -> None:
    debounced(engine, 1, longest="15 seconds")
    engine.pass_time(8)
    debounced(engine, 2, longest="15 seconds")
    engine.pass_time(7.1)
    assert worker.claim_one().input == {"number": 2}


def test_a_burst_at_once_is_one_saga(engine: Engine) -> None:
    found = at_once(engine, "select * from start_debounced('single', '{}', 'k', '1 hour')", 8)
    assert len({row[0] for row in found}) == 1
    assert sum(row[2] for row in found) == 1


def test_a_burst_and_a_claim_at_once_lose_no_input(engine: Engine, worker: Worker) -> None:
    first = debounced(engine, 1)
    engine.pass_time(11)
    with engine.schema.connect(autocommit=False) as other:
        other.execute("select * from start_debounced('single', '{\"number\": 2}', 'k', '10 s')")
        assert worker.claim() == [], "it is being put off"
        other.commit()
    engine.pass_time(11)
    worker.heartbeat()
    held = worker.claim_one()
    assert (held.command, held.input) == (first.id, {"number": 2})


def test_a_debounced_saga_in_the_queue_of_a_limit_is_replaced_too(
    engine: Engine, worker: Worker
) -> None:
    engine.execute("select set_limit('single', 'all', 1)")
    engine.start("single")
    busy = worker.claim_one()
    first = debounced(engine, 1)
    engine.pass_time(11)
    worker.heartbeat()
    assert worker.claim() == []
    assert debounced(engine, 2).id == first.id
    worker.say(busy, "done")
    assert worker.claim() == [], "it was put off"
    engine.pass_time(11)
    worker.heartbeat()
    assert worker.claim_one().input == {"number": 2}


def test_inputs_and_times_that_make_no_sense_are_refused(engine: Engine) -> None:
    debounced(engine, 1)
    for problem, call in {
        "number": "start_debounced('single', '{\"number\": \"x\"}', 'k', '1 s')",
        "a period of more than 0": "start_once_per('single', '{}', 'k', '0')",
        "needs a key": "start_once_per('single', '{}', '', '1 s')",
        "times of 0 or more": "start_debounced('single', '{}', 'k', '-1 s')",
        "unknown saga type": "start_once_per('none', '{}', 'k', '1 s')",
    }.items():
        with pytest.raises(psycopg.Error, match=problem):
            engine.execute(f"select * from {call}")  # noqa: S608

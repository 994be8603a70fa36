"""Falling asleep and being woken: nobody sleeps through a start, and a busy system says nothing."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from tests.fixtures import Schema
from tests.sql.engine import Engine, Worker
from tests.sql.positions import reach

HOUR = timedelta(hours=1)
SENTINEL = "that is all"


@pytest.fixture
def ear(schema: Schema) -> Iterator[psycopg.Connection[Any]]:
    """A connection that listens as workers do."""
    with schema.connect() as connection:
        connection.execute(f"listen {schema.name}_wake")
        yield connection


def heard(engine: Engine, ear: psycopg.Connection[Any]) -> int:
    """How many notifications were sent so far: those before one that is sent here."""
    engine.execute("select pg_notify(%s, %s)", f"{engine.schema.name}_wake", SENTINEL)
    found = 0
    for message in ear.notifies():
        if message.payload == SENTINEL:
            break
        found += 1
    return found


def is_idle(engine: Engine, worker: Worker) -> bool:
    return bool(engine.value("select idle from worker where id = %s", worker.id))


def test_a_worker_with_nothing_to_do_sleeps_until_it_is_woken(
    engine: Engine, ear: psycopg.Connection[Any]
) -> None:
    worker = engine.worker()
    assert worker.doze() == HOUR
    assert is_idle(engine, worker)
    engine.start()
    assert heard(engine, ear) == 1
    worker.claim()
    assert not is_idle(engine, worker)


def test_a_start_is_heard_at_its_commit_not_before(
    engine: Engine, ear: psycopg.Connection[Any]
) -> None:
    engine.worker().doze()
    with engine.schema.connect(autocommit=False) as starter:
        starter.execute("select start('order', '{}')")
        assert heard(engine, ear) == 0
        starter.commit()
        assert heard(engine, ear) == 1
        starter.execute("select start('order', '{}')")
        starter.rollback()
    assert heard(engine, ear) == 0


def test_a_busy_system_notifies_nobody(engine: Engine, ear: psycopg.Connection[Any]) -> None:
    engine.worker()
    other = engine.worker("single")
    other.doze()
    for _ in range(3):
        engine.start()
    assert heard(engine, ear) == 0, "one is awake, the other runs another type"


def test_only_a_live_idle_worker_counts(engine: Engine, ear: psycopg.Connection[Any]) -> None:
    worker = engine.worker()
    worker.doze()
    engine.pass_time(60)
    engine.start()
    assert heard(engine, ear) == 0
    worker.heartbeat()
    engine.start()
    assert heard(engine, ear) == 1


def test_one_bulk_start_is_one_notification(engine: Engine, ear: psycopg.Connection[Any]) -> None:
    engine.worker().doze()
    engine.execute("select start_many('order', array_fill('{}'::jsonb, array[50]))")
    assert heard(engine, ear) == 1


def test_a_start_that_started_nothing_wakes_nobody(
    engine: Engine, ear: psycopg.Connection[Any]
) -> None:
    engine.start(key="k")
    engine.worker().doze()
    engine.start(key="k")
    assert heard(engine, ear) == 0


def test_nobody_falls_asleep_while_a_start_is_under_way(
    engine: Engine, ear: psycopg.Connection[Any]
) -> None:
    worker = engine.worker()
    with engine.schema.connect(autocommit=False) as starter:
        starter.execute("select start('order', '{}')")
        assert worker.doze() is None
        assert not is_idle(engine, worker)
        starter.commit()
    due = worker.doze()
    assert due is not None
    assert due <= timedelta(), "what was started is due"


def test_a_start_in_a_transaction_older_than_the_sleep_is_heard(
    engine: Engine, ear: psycopg.Connection[Any]
) -> None:
    worker = engine.worker()
    with engine.schema.connect(autocommit=False) as starter:
        starter.execute("select count(*) from outbox")
        assert worker.doze() == HOUR
        starter.execute("select start('order', '{}')")
        starter.commit()
    assert heard(engine, ear) == 1


def test_a_start_with_an_old_snapshot_is_heard(
    engine: Engine, ear: psycopg.Connection[Any]
) -> None:
    worker = engine.worker()
    with engine.schema.connect(autocommit=False) as starter:
        starter.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        starter.execute("select count(*) from worker where idle")
        assert worker.doze() == HOUR
        starter.execute("select start('order', '{}')")
        starter.commit()
    assert heard(engine, ear) == 1


def test_a_sleeper_knows_when_its_next_command_is_due(engine: Engine) -> None:
    worker = engine.worker()
    engine.start(due_at=engine.now() + timedelta(minutes=5))
    engine.start("single", due_at=engine.now() + timedelta(minutes=1))
    reach(engine, "first")
    due = worker.doze()
    assert due is not None
    assert timedelta(minutes=4) < due <= timedelta(minutes=5)
    engine.pass_time(600)
    due = worker.doze()
    assert due is not None
    assert due < timedelta()


def test_who_is_not_registered_does_not_sleep(engine: Engine) -> None:
    worker = engine.worker()
    worker.deregister()
    assert worker.doze() is None


def release(engine: Engine) -> Callable[[], object]:
    at = reach(engine, "first")
    return lambda: at.worker.release(at.held)


def deregister(engine: Engine) -> Callable[[], object]:
    return reach(engine, "first").worker.deregister


def reap(engine: Engine) -> Callable[[], object]:
    reach(engine, "first")
    engine.pass_time(60)
    return engine.reap


def retry(engine: Engine) -> Callable[[], object]:
    at = reach(engine, "after the pivot")
    at.worker.say(at.held, "rejected")
    return lambda: engine.retry(at.saga)


def abort(engine: Engine) -> Callable[[], object]:
    at = reach(engine, "after the pivot")
    at.worker.say(at.held, "rejected")
    return lambda: engine.abort(at.saga)


@pytest.mark.parametrize("prepare", [release, deregister, reap, retry, abort])
def test_whatever_becomes_due_again_wakes_a_sleeper(
    engine: Engine,
    ear: psycopg.Connection[Any],
    prepare: Callable[[Engine], Callable[[], object]],
) -> None:
    free = prepare(engine)
    sleeper = engine.worker()
    sleeper.doze()
    assert heard(engine, ear) == 0
    free()
    assert heard(engine, ear) == 1
    assert len(sleeper.claim()) == 1

"""Definitions: updated while sagas live, but never changed under them."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from outbox import Retry, Saga
from tests.sql.engine import Engine
from tests.sql.positions import reach
from tests.sql.sagas import ORDER, Order, act
from tests.waiting import wait_until


def changing(*steps: str, attempts: int = 5, undo: bool = False, version: int = 1) -> Saga[Any]:
    saga = Saga("changing", input=Order, version=version)
    for name in steps:
        step = saga.step(
            name=name, retry=Retry(attempts), nothing_to_undo=None if undo else "it reads"
        )(act)
        if undo:
            step.compensation()(act)
    return saga


def test_a_definition_is_registered_updated_or_unchanged(engine: Engine) -> None:
    assert engine.register(changing("a", "b")) == ["registered"]
    assert engine.register(changing("a", "b")) == ["unchanged"]
    assert engine.register(changing("a", "b", attempts=2)) == ["updated"]
    assert engine.register(changing("a", "b", version=2)) == ["registered"]
    assert engine.register(changing("a", "c")) == ["updated"], "nothing lives that needs b"
    names = "select name, next from definition_step where type = 'changing' and version = 1"
    assert [(row.name, row.next) for row in engine.rows(f"{names} order by position")] == [
        *[("a", "c"), ("c", None)],
    ]


def test_a_policy_may_change_under_a_living_saga(engine: Engine) -> None:
    engine.register(changing("a"))
    saga = engine.start("changing")
    assert engine.register(changing("a", attempts=1)) == ["updated"]
    worker = engine.worker("changing")
    assert worker.say(worker.claim_one(), "retry", no_effect=True).status == "FAILED"
    assert engine.instance(saga).status == "FAILED"


@pytest.mark.parametrize(
    "other", [changing("a"), changing("b", "a"), changing("a", "b", undo=True)], ids=repr
)
def test_steps_may_not_change_under_a_living_saga(engine: Engine, other: Saga[Any]) -> None:
    engine.register(changing("a", "b"))
    engine.start("changing")
    with pytest.raises(psycopg.Error, match="1 of its sagas live") as caught:
        engine.register(other)
    assert caught.value.sqlstate == "SG008"
    assert 'Saga("changing", version=2)' in (caught.value.diag.message_hint or "")
    assert engine.register(changing("a", "b")) == ["unchanged"]


def test_steps_may_not_change_under_a_saga_that_is_being_started(engine: Engine) -> None:
    engine.register(changing("a"))
    waiting = "select 1 from pg_stat_activity where pid = %s and wait_event_type = 'Lock'"
    pid = engine.connection.info.backend_pid
    with (
        engine.schema.connect() as observer,
        engine.schema.connect(autocommit=False) as starter,
        ThreadPoolExecutor() as executor,
    ):
        starter.execute("select start('changing', '{}')")
        change = executor.submit(engine.register, changing("b"))
        wait_until(lambda: change.done() or observer.execute(waiting, (pid,)).fetchone())
        starter.commit()
        with pytest.raises(psycopg.Error, match="1 of its sagas live"):
            change.result(timeout=20)
    assert engine.worker("changing").claim_one().step == "a"


def test_a_saga_is_audited_by_the_steps_it_had(engine: Engine) -> None:
    engine.register(changing("a"))
    saga_id = engine.start("changing")
    worker = engine.worker("changing")
    worker.say(worker.claim_one(), "done")
    assert engine.instance(saga_id).status == "COMPLETED"
    engine.register(changing("a", "b"))
    assert engine.audit() == []


def test_many_register_at_once(engine: Engine) -> None:
    def register(_: int) -> list[str]:
        other = Engine(engine.schema)
        try:
            return other.register(changing("a", "b"), ORDER)
        finally:
            other.connection.close()

    with ThreadPoolExecutor() as executor:
        found = list(executor.map(register, range(10)))
    assert sorted(first for first, _ in found) == ["registered", *["unchanged"] * 9]


def test_a_new_version_leaves_the_old_one_to_its_sagas(engine: Engine) -> None:
    engine.register(changing("a", "b"))
    engine.start("changing")
    engine.register(changing("c", version=2))
    engine.start("changing")
    old, new = engine.worker("changing"), engine.worker("changing", version=2)
    assert old.say(old.claim_one(), "done").step == "b"
    assert new.say(new.claim_one(), "done").status == "COMPLETED"


def test_what_a_definition_says_of_times_is_what_a_worker_gets(engine: Engine) -> None:
    reach(engine, "first")
    (row,) = engine.rows("select * from definition_step where type = 'order' and name = 'reserve'")
    assert (row.timeout, row.undo_timeout) == (timedelta(seconds=5), timedelta(seconds=7))
    assert (row.attempts, row.backoff, row.backoff_cap) == (
        *(3, timedelta(seconds=8), timedelta(minutes=1)),
    )
    assert (row.undo_attempts, row.undo_backoff) == (2, timedelta(seconds=4))

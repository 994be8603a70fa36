"""Pauses: what is in flight finishes, and nothing begins."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from outbox import Saga
from tests.sql.engine import BOTH_WAYS, Engine
from tests.sql.lined import branched
from tests.sql.positions import reach, suspend
from tests.sql.sagas import Order, act

pytestmark = BOTH_WAYS


def pauses(engine: Engine) -> bool:
    return bool(engine.value("select pauses from setting"))


PAUSES: dict[str, tuple[Callable[[Engine, UUID], Any], Callable[[Engine, UUID], Any]]] = {
    "saga": (
        lambda e, s: e.act("pause_saga", s, "wait"),
        lambda e, s: e.act("resume_saga", s, "go on"),
    ),
    "type": (
        lambda e, s: e.value("select pause('wait', 'order')"),
        lambda e, s: e.value("select resume('go on', 'order')"),
    ),
    "everything": (
        lambda e, s: e.value("select pause('wait')"),
        lambda e, s: e.value("select resume('go on')"),
    ),
}


@pytest.mark.parametrize("what", PAUSES)
def test_what_is_in_flight_finishes_and_nothing_begins_until_it_goes_on(
    engine: Engine, what: str
) -> None:
    pause, resume = PAUSES[what]
    at = reach(engine, "first")
    pause(engine, at.saga)
    answer = at.worker.say(at.held, "done", result="1")
    assert (answer.verdict, answer.status, answer.fence) == ("applied", "EXECUTING", None)
    row = engine.row(at.saga)
    assert (row.step, row.worker, row.attempt) == ("inspect", None, 0)
    assert at.worker.claim() == []
    assert engine.rows("select * from stuck") == []
    engine.pass_time(3600)
    assert engine.rows("select * from stuck") == [], "it is where it should be"
    (pending,) = engine.rows("select * from pending")
    assert pending.standing == "paused"
    at.worker = engine.worker()
    assert at.worker.doze() == timedelta(hours=1), "nothing wakes a worker for it"
    resume(engine, at.saga)
    assert not pauses(engine)
    held = at.worker.claim_one()
    assert (held.step, held.results) == ("inspect", {"reserve": 1})
    assert at.worker.say(held, "done").fence is not None, "it stays in hand again"


@pytest.mark.parametrize("what", PAUSES)
def test_a_failure_under_a_pause_is_undone_later(engine: Engine, what: str) -> None:
    pause, resume = PAUSES[what]
    at = reach(engine, "before the pivot")
    pause(engine, at.saga)
    answer = at.worker.say(at.held, "rejected")
    assert (answer.status, answer.fence) == ("COMPENSATING", None)
    assert at.worker.claim() == []
    resume(engine, at.saga)
    assert at.worker.claim_one().step == "reserve"


def test_a_pause_of_one_saga_leaves_the_others_alone(engine: Engine) -> None:
    paused, other = reach(engine, "first"), reach(engine, "first")
    engine.act("pause_saga", paused.saga, "wait")
    assert paused.worker.say(paused.held, "done").fence is None
    assert other.worker.say(other.held, "done").fence is not None
    fresh = engine.start()
    assert other.worker.claim_one().command == fresh


def test_a_paused_saga_may_be_started_and_cancelled(engine: Engine) -> None:
    engine.value("select pause('wait', 'order')")
    saga = engine.start()
    worker = engine.worker()
    assert worker.claim() == []
    assert engine.act("cancel", saga, "not wanted") == "FAILED"


def test_a_paused_saga_that_is_cancelled_is_undone_once_it_goes_on(engine: Engine) -> None:
    at = reach(engine, "before the pivot")
    engine.act("pause_saga", at.saga, "wait")
    assert engine.act("cancel", at.saga, "not wanted") == "EXECUTING"
    assert at.worker.say(at.held, "done").fence is None
    assert engine.row(at.saga).status == "COMPENSATING"
    assert at.worker.claim() == []
    engine.act("resume_saga", at.saga, "go on")
    assert at.worker.claim_one().step == "charge"


def test_a_paused_saga_takes_signals_and_acts_on_them_once_it_goes_on(engine: Engine) -> None:
    asking = Saga("asking", input=Order)
    asking.wait_for("approved", timeout=timedelta(hours=1))
    asking.step(name="after", nothing_to_undo="it reads")(act)
    engine.register(asking)
    saga, worker = engine.start("asking"), engine.worker("asking")
    worker.say(worker.claim_one(), "waiting", result='{"await": "signal"}')
    engine.act("pause_saga", saga, "wait")
    assert engine.act("signal", saga, "approved", "7") == "delivered"
    assert worker.claim() == []
    assert engine.value("select paused from overview where saga_id = %s", saga)
    engine.act("resume_saga", saga, "go on")
    held = worker.claim_one()
    assert (held.step, held.arrived["payload"]) == ("approved", 7)
    assert engine.value("select paused from overview where saga_id = %s", saga) is None


def test_lines_side_by_side_are_put_down_and_none_is_handed_out(engine: Engine) -> None:
    saga, worker = branched(engine)
    left, right = worker.claim()
    engine.value("select pause('wait', 'lined')")
    assert worker.say(left, "done").fence is None
    assert worker.say(right, "done").fence is None
    assert engine.row(saga).step == "last"
    assert worker.claim() == []
    engine.value("select resume('go on', 'lined')")
    assert worker.say(worker.claim_one(), "done").status == "COMPLETED"


def test_a_dead_workers_command_is_paused_too(engine: Engine) -> None:
    at = reach(engine, "first")
    engine.act("pause_saga", at.saga, "wait")
    engine.pass_time(3600)
    engine.reap()
    other = engine.worker()
    assert other.claim() == []
    engine.act("resume_saga", at.saga, "go on")
    assert other.claim_one().in_doubt


def test_the_last_step_done_under_a_pause_ends_the_saga_and_its_pause(engine: Engine) -> None:
    at = reach(engine, "last")
    engine.act("pause_saga", at.saga, "wait")
    assert at.worker.say(at.held, "done").status == "COMPLETED"
    assert engine.rows("select * from paused") == []
    engine.execute("select * from raise_alerts()")
    assert not pauses(engine)


def test_pauses_add_up(engine: Engine) -> None:
    at = suspend(engine)
    for pause, _ in PAUSES.values():
        pause(engine, at.saga)
    engine.retry(at.saga)
    shown = engine.rows("select * from paused order by since")
    assert [(row.saga_id, row.type) for row in shown] == [
        (at.saga, "order"),
        (None, "order"),
        (None, None),
    ]
    for _, resume in PAUSES.values():
        assert at.worker.claim() == []
        assert pauses(engine)
        resume(engine, at.saga)
    assert at.worker.claim_one().command == at.saga
    kept = engine.rows("select note, resume_note, resumed_by from pause")
    assert {(row.note, row.resume_note) for row in kept} == {("wait", "go on")}


@pytest.mark.parametrize(
    ("statement", "state", "message"),
    [
        ("select pause('', 'order')", "SG002", "needs a note"),
        ("select pause('why', 'ordre')", "SG001", 'unknown saga type "ordre"'),
        ("select pause('why', 'entry')", "SG005", 'type "entry" is paused already, by .*: before'),
        ("select resume('why', 'order')", "SG005", 'type "order" is not paused'),
        ("select resume('why')", "SG005", "the whole installation is not paused"),
        ("select resume(' ', 'entry')", "SG002", "needs a note"),
        ("select pause_saga(%(saga)s, 'why')", "SG005", "is paused already, by .*: before"),
        ("select pause_saga(%(saga)s, 'why', 0)", "SG006", "you saw seq 0"),
        ("select pause_saga(%(none)s, 'why')", "SG004", "no saga has the id"),
        ("select pause_saga(%(ended)s, 'why')", "SG005", "has ended: it is FAILED"),
        ("select resume_saga(%(ended)s, 'why')", "SG005", "has ended: it is FAILED"),
        ("select resume_saga(%(other)s, 'why')", "SG005", "is not paused: it is SUSPENDED"),
        ("select resume_saga(%(saga)s, null)", "SG002", "needs a note"),
    ],
)
def test_a_pause_that_does_not_apply_is_refused_and_changes_nothing(
    engine: Engine, statement: str, state: str, message: str
) -> None:
    saga, other, ended = suspend(engine).saga, suspend(engine).saga, engine.start()
    engine.abort(ended)
    engine.act("pause_saga", saga, "before")
    engine.value("select pause('before', 'entry')")
    before = engine.everything()
    with pytest.raises(psycopg.Error, match=message) as caught:
        engine.connection.execute(
            statement, {"saga": saga, "other": other, "ended": ended, "none": uuid4()}
        )
    assert caught.value.sqlstate == state
    assert engine.everything() == before


def test_of_two_pauses_at_once_one_is_refused_and_one_resume_ends_it(engine: Engine) -> None:
    saga = suspend(engine).saga

    def call(statement: str) -> str:
        with engine.schema.connect() as connection:
            try:
                connection.execute(statement, {"saga": saga})
            except psycopg.Error as error:
                return str(error.sqlstate)
        return "done"

    with ThreadPoolExecutor() as executor:
        for statement in (
            *("select pause_saga(%(saga)s, 'why')", "select pause('why', 'order')"),
            *("select resume_saga(%(saga)s, 'why')", "select resume('why', 'order')"),
        ):
            assert sorted(executor.map(call, [statement] * 4)) == ["SG005"] * 3 + ["done"]
    assert not pauses(engine)

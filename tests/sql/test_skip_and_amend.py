"""Taking a step as done, and correcting what a saga works with."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from outbox import Saga
from tests.sql.engine import BOTH_WAYS, Engine
from tests.sql.lined import both_suspended
from tests.sql.positions import reach, suspend, undo_all
from tests.sql.sagas import ORDER, Order, act

pytestmark = BOTH_WAYS
HOUR = timedelta(hours=1)


def is_suspended(engine: Engine, saga: UUID) -> list[str]:
    rows = engine.rows(
        "select step from outbox where %s in (id, root) and status = 'SUSPENDED' order by step",
        saga,
    )
    return [row.step for row in rows]


def test_a_skipped_step_is_done_with_the_given_result(engine: Engine) -> None:
    at = suspend(engine)
    seq = engine.row(at.saga).seq
    assert engine.act("skip", at.saga, "mailed by hand", '{"by": "post"}') == "EXECUTING"
    skipped, done = engine.history(at.saga)[-2:]
    assert (skipped.kind, skipped.seq, skipped.to_status) == ("act", seq + 1, "EXECUTING")
    assert (done.kind, done.outcome, done.step) == ("action", "done", "mail")
    assert (done.result, done.attempt, done.worker) == ({"by": "post"}, 2, None)
    held = at.worker.claim_one()
    assert (held.step, held.attempt, held.in_doubt) == ("archive", 1, False)
    assert held.results is not None
    assert held.results["mail"] == {"by": "post"}
    assert at.worker.say(held, "done").status == "COMPLETED"


def test_a_skipped_undo_counts_as_undone(engine: Engine) -> None:
    at = suspend(engine, "compensation")
    assert engine.act("skip", at.saga, "refunded by phone") == "COMPENSATING"
    assert undo_all(at) == ["reserve"]
    assert engine.instance(at.saga).status == "FAILED"


def test_the_undo_sees_the_result_that_a_skip_gave(engine: Engine) -> None:
    at = reach(engine, "first")
    at.worker.say(at.held, "retry", after=HOUR)
    assert engine.act("skip", at.saga, "reserved by hand", '{"place": 7}') == "EXECUTING"
    at.worker.say(at.worker.claim_one(), "rejected")
    undo = at.worker.claim_one() if engine.row(at.saga).worker is None else None
    row = engine.row(at.saga)
    assert (row.kind, row.step) == ("compensation", "reserve")
    if undo is not None:
        assert undo.results is not None
        assert undo.results["reserve"] == {"place": 7}


def test_the_last_step_skipped_completes_the_saga_with_the_result(engine: Engine) -> None:
    at = suspend(engine, "last")
    assert engine.act("skip", at.saga, "filed by hand", '"filed"') == "COMPLETED"
    assert engine.instance(at.saga).output == "filed"


def test_of_several_suspended_lines_the_step_names_which(engine: Engine) -> None:
    saga, worker = both_suspended(engine)
    before = engine.everything()
    with pytest.raises(psycopg.Error, match="several commands that can be skipped: left, right"):
        engine.act("skip", saga, "which?")
    with pytest.raises(psycopg.Error, match='at step "last"'):
        engine.act("skip", saga, "no such line", p_step="last")
    assert engine.everything() == before
    engine.act("skip", saga, "one", p_step="right")
    assert is_suspended(engine, saga) == ["left"]
    engine.act("skip", saga, "the other")
    assert worker.claim_one().step == "last"


def test_a_signal_that_nobody_will_send_is_skipped_with_its_payload(engine: Engine) -> None:
    saga_type = Saga("asking", input=Order)
    saga_type.wait_for("approved", timeout=HOUR)
    saga_type.step(name="after", nothing_to_undo="it reads")(act)
    engine.register(saga_type)
    saga, worker = engine.start("asking"), engine.worker("asking")
    worker.say(worker.claim_one(), "waiting", result='{"await": "signal"}')
    assert engine.act("skip", saga, "approved by phone", '{"by": "ann"}') == "EXECUTING"
    held = worker.claim_one()
    assert (held.step, held.results) == ("after", {"approved": {"by": "ann"}})


def test_a_choice_that_breaks_is_skipped_to_an_alternative(engine: Engine) -> None:
    saga_type = Saga("choosing", input=Order)
    with saga_type.choice("which") as choice:
        with choice.when(lambda cmd: True):
            saga_type.step(name="one", nothing_to_undo="it reads")(act)
        with choice.otherwise():
            saga_type.step(name="other", nothing_to_undo="it reads")(act)
    engine.register(saga_type)
    saga, worker = engine.start("choosing"), engine.worker("choosing")
    worker.say(worker.claim_one(), "suspended")
    with pytest.raises(psycopg.Error, match='choice "which" is the place of an alternative, 0 to'):
        engine.act("skip", saga, "which?", "2")
    engine.act("skip", saga, "the other one", "1")
    held = worker.claim_one()
    assert held.step == "other"
    assert worker.say(held, "done").status == "COMPLETED"


def test_what_waits_for_a_living_sub_saga_is_not_skipped(engine: Engine) -> None:
    saga_type = Saga("outer", input=Order)
    saga_type.run("inner", ORDER, input=lambda cmd: cmd.input)
    engine.register(saga_type)
    saga, worker = engine.start("outer"), engine.worker("outer")
    plan = {"await": "saga", "type": "order", "key": "inner", "input": {}}
    worker.say(worker.claim_one(), "waiting", result=json.dumps(plan))
    with pytest.raises(psycopg.Error, match=r'step "inner" .* waits for saga .*, which lives'):
        engine.act("skip", saga, "why")


def test_an_amended_input_is_what_the_suspended_step_runs_with(engine: Engine) -> None:
    at = suspend(engine)
    assert engine.act("amend", at.saga, "wrong number", Jsonb({"number": 8})) == "EXECUTING"
    held = at.worker.claim_one()
    assert (held.step, held.input, held.revision) == ("mail", {"number": 8}, 1)
    kept = engine.value("select detail from act where saga_id = %s", at.saga)
    assert kept == {"old_input": {}, "new_input": {"number": 8}}


def test_an_amended_input_does_not_change_the_key_of_what_is_in_doubt(engine: Engine) -> None:
    at = suspend(engine, outcome="retry")
    engine.act("amend", at.saga, "wrong number", Jsonb({"number": 8}))
    held = at.worker.claim_one()
    assert (held.revision, held.in_doubt) == (0, True)


def test_a_start_with_the_input_before_the_amendment_still_finds_its_saga(engine: Engine) -> None:
    saga = engine.start(key="k", number=1)
    engine.act("amend", saga, "wrong number", Jsonb({"number": 2}))
    assert engine.start(key="k", number=1) == saga
    assert engine.start(key="k", number=2) == saga
    with pytest.raises(psycopg.Error, match="exists with another input"):
        engine.start(key="k", number=3)


def test_an_amended_result_is_what_later_steps_and_the_undo_see(engine: Engine) -> None:
    at = reach(engine, "first")
    held = at.worker.say(at.held, "done", result='{"ref": 1}')
    at.worker.say(held, "retry", after=HOUR)
    for ref in (2, 3):
        engine.act("amend", at.saga, "wrong", p_step="reserve", p_result=json.dumps({"ref": ref}))
    assert [t.result for t in engine.history(at.saga) if t.step == "reserve"] == [
        {"ref": 1},
        {"ref": 2},
        {"ref": 3},
    ]
    details = [r.detail for r in engine.rows("select detail from act order by seq")]
    assert details[1] == {"step": "reserve", "old_result": {"ref": 2}, "new_result": {"ref": 3}}
    engine.retry(at.saga)
    again = at.worker.claim_one()
    assert again.results == {"reserve": {"ref": 3}}
    at.worker.say(again, "rejected")
    at.worker.deregister()
    engine.reap()
    undo = engine.worker().claim_one()
    assert (undo.kind, undo.step) == ("compensation", "reserve")
    assert undo.results is not None
    assert undo.results["reserve"] == {"ref": 3}


def test_of_several_acts_at_once_on_what_was_seen_one_wins(engine: Engine) -> None:
    saga = suspend(engine).saga
    seq = engine.row(saga).seq

    def call(statement: str) -> str:
        with engine.schema.connect() as connection:
            try:
                connection.execute(statement, {"saga": saga, "seq": seq})
            except psycopg.Error as error:
                return str(error.sqlstate)
        return "done"

    with ThreadPoolExecutor() as executor:
        ends = executor.map(
            call,
            (
                "select skip(%(saga)s, 'why', p_seq => %(seq)s)",
                "select amend(%(saga)s, 'why', '{}', p_seq => %(seq)s)",
                "select pause_saga(%(saga)s, 'why', %(seq)s)",
                "select cancel(%(saga)s, 'why', true, %(seq)s)",
                "select skip(%(saga)s, 'why', p_seq => %(seq)s)",
            ),
        )
    assert sorted(ends) == ["SG006"] * 4 + ["done"]
    assert engine.value("select count(distinct act) from act") == 1


SKIP: Callable[[Engine, UUID], Any] = lambda e, s: e.act("skip", s, "why")  # noqa: E731
INPUT: Callable[[Engine, UUID], Any] = lambda e, s: e.act("amend", s, "why", Jsonb({}))  # noqa: E731


def _ended(engine: Engine) -> UUID:
    saga = engine.start()
    engine.abort(saga)
    return saga


@pytest.mark.parametrize(
    ("do", "make", "state", "message"),
    [
        (SKIP, lambda e: uuid4(), "SG004", "no saga has the id"),
        (SKIP, lambda e: e.start(), "SG005", 'it is CREATED, step "reserve" has not begun'),
        (SKIP, lambda e: reach(e, "first").saga, "SG005", 'step "reserve" is running'),
        (SKIP, _ended, "SG005", "has ended: it is FAILED"),
        (INPUT, lambda e: uuid4(), "SG004", "no saga has the id"),
        (INPUT, lambda e: reach(e, "first").saga, "SG005", 'step "reserve" is running'),
        (INPUT, _ended, "SG005", "has ended"),
        (
            lambda e, s: e.act("amend", s, "why", Jsonb({"number": "x"})),
            lambda e: suspend(e).saga,
            "SG002",
            'the field "number" must be integer',
        ),
        (
            lambda e, s: e.act("amend", s, "why", p_step="mail", p_result="1"),
            lambda e: suspend(e).saga,
            "SG005",
            'step "mail" of saga .* is not done: the saga is SUSPENDED, step "mail" is suspended',
        ),
        (
            lambda e, s: e.act("amend", s, "why", p_step="charge", p_result="1"),
            lambda e: skipped_undo(e),
            "SG005",
            'step "charge" of saga .* has been undone',
        ),
        (
            lambda e, s: e.act("amend", s, "why", Jsonb({}), "mail", "1"),
            lambda e: suspend(e).saga,
            "SG002",
            "an input, or a step and its result",
        ),
        (
            lambda e, s: e.act("skip", s, "why", json.dumps("x" * 300_000)),
            lambda e: suspend(e).saga,
            "SG002",
            "the limit is 262144",
        ),
        (
            lambda e, s: e.act("skip", s, "why", p_seq=1),
            lambda e: suspend(e).saga,
            "SG006",
            "has moved on: you saw seq 1",
        ),
        (
            lambda e, s: e.act("amend", s, "why", Jsonb({}), p_seq=1),
            lambda e: suspend(e).saga,
            "SG006",
            "has moved on: you saw seq 1",
        ),
        (lambda e, s: e.act("skip", s, " "), lambda e: suspend(e).saga, "SG002", "needs a note"),
        (
            lambda e, s: e.act("amend", s, "", Jsonb({})),
            lambda e: suspend(e).saga,
            "SG002",
            "needs a note",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_the_state_it_is_in_and_changes_nothing(
    engine: Engine,
    do: Callable[[Engine, UUID], Any],
    make: Callable[[Engine], UUID],
    state: str,
    message: str,
) -> None:
    saga = make(engine)
    before = engine.everything()
    with pytest.raises(psycopg.Error, match=message) as caught:
        do(engine, saga)
    assert caught.value.sqlstate == state
    assert engine.everything() == before


def skipped_undo(engine: Engine) -> UUID:
    at = suspend(engine, "compensation")
    engine.act("skip", at.saga, "by hand")
    return at.saga

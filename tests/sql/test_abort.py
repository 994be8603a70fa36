"""An abort: whatever was done, or may have been done, is undone, the pivot too."""

from datetime import timedelta

import pytest

from tests.sql.engine import BOTH_WAYS, Engine
from tests.sql.positions import reach, suspend, undo_all

pytestmark = BOTH_WAYS


def test_abort_before_a_worker_came_ends_the_saga(engine: Engine) -> None:
    saga = engine.start()
    assert engine.abort(saga, "wrong customer") == "FAILED"
    ended = engine.instance(saga)
    assert (ended.status, ended.error) == (
        *("FAILED", {"type": "Aborted", "message": "wrong customer"}),
    )
    assert engine.last(saga).from_status == "CREATED"
    assert engine.worker().claim() == []


@pytest.mark.parametrize(
    ("position", "undone"),
    [
        ("first", ["reserve"]),
        ("nothing to undo", ["reserve"]),
        ("before the pivot", ["charge", "reserve"]),
        ("pivot", ["book", "charge", "reserve"]),
        ("after the pivot", ["book", "charge", "reserve"]),
        ("last", ["archive", "book", "charge", "reserve"]),
        ("transactional", ["post", "hold"]),
        ("transactional pivot", ["post", "hold"]),
    ],
)
def test_abort_lets_the_running_step_finish_and_then_undoes_it_too(
    engine: Engine, position: str, undone: list[str]
) -> None:
    at = reach(engine, position)
    before = engine.row(at.saga)
    assert engine.abort(at.saga, "stop") == "EXECUTING"
    row = engine.row(at.saga)
    assert (row.abort, row.fence, row.worker, row.seq) == (
        *(True, before.fence, before.worker, before.seq + 1),
    )
    answer = at.worker.say(at.held, "done", result='{"id": 1}')
    assert (answer.status, answer.kind, answer.step) == ("COMPENSATING", "compensation", undone[0])
    assert not engine.row(at.saga).abort
    at.worker.release(answer)
    assert undo_all(at) == undone
    ended = engine.instance(at.saga)
    assert (ended.status, ended.error) == ("FAILED", {"type": "Aborted", "message": "stop"})


@pytest.mark.parametrize(
    ("position", "outcome", "undone"),
    [
        ("first", "rejected", []),
        ("first", "retry", ["reserve"]),
        ("pivot", "retry", ["book", "charge", "reserve"]),
        ("pivot", "rejected", ["charge", "reserve"]),
        ("after the pivot", "in_doubt", ["book", "charge", "reserve"]),
        ("after the pivot", "rejected", ["book", "charge", "reserve"]),
        ("transactional", "in_doubt", ["hold"]),
    ],
)
def test_abort_while_a_step_runs_that_fails_undoes_what_was_done(
    engine: Engine, position: str, outcome: str, undone: list[str]
) -> None:
    at = reach(engine, position)
    engine.abort(at.saga)
    answer = at.worker.say(at.held, outcome)
    if undone:
        assert answer.status == "COMPENSATING"
        if answer.fence is not None:
            at.worker.release(answer)
        assert undo_all(at) == undone
    assert engine.instance(at.saga).status == "FAILED"


def test_abort_of_a_saga_with_nothing_to_undo_says_so_in_its_error(engine: Engine) -> None:
    saga, worker = engine.start("single"), engine.worker("single")
    held = worker.claim_one()
    engine.abort(saga, "not wanted")
    assert worker.say(held, "done").status == "FAILED"
    assert engine.instance(saga).error == {"type": "Aborted", "message": "not wanted"}


@pytest.mark.parametrize(
    ("position", "undone"),
    [
        ("first", ["reserve"]),
        ("nothing to undo", ["reserve"]),
        ("before the pivot", ["charge", "reserve"]),
        ("after the pivot", ["book", "charge", "reserve"]),
        ("transactional", ["hold"]),
    ],
)
@pytest.mark.parametrize("outcome", ["retry", "in_doubt"])
def test_abort_between_two_attempts_undoes_what_may_have_happened(
    engine: Engine, position: str, undone: list[str], outcome: str
) -> None:
    at = reach(engine, position)
    at.worker.say(at.held, outcome, doubt_for=timedelta(minutes=1))
    doubt_until = engine.row(at.saga).doubt_until
    assert engine.abort(at.saga) == "COMPENSATING"
    row = engine.row(at.saga)
    if row.step == at.held.step:
        assert row.due_at == doubt_until
    assert undo_all(at) == undone


def test_abort_of_a_suspended_saga_undoes_all_of_it_the_pivot_too(engine: Engine) -> None:
    at = suspend(engine)
    assert engine.abort(at.saga, "give the money back") == "COMPENSATING"
    assert engine.row(at.saga).reason is None
    assert undo_all(at) == ["book", "charge", "reserve"]
    assert engine.instance(at.saga).error == {"type": "Aborted", "message": "give the money back"}


def test_abort_of_a_pivot_in_doubt_undoes_it_not_before_it_can_have_landed(engine: Engine) -> None:
    at = reach(engine, "pivot")
    at.worker.say(at.held, "in_doubt", give_up=True, doubt_for=timedelta(minutes=5))
    doubt_until = engine.row(at.saga).doubt_until
    assert engine.abort(at.saga) == "COMPENSATING"
    assert engine.row(at.saga).due_at == doubt_until
    assert undo_all(at) == ["book", "charge", "reserve"]


def test_an_abort_of_a_command_given_back_since_an_earlier_one_leaves_its_undo_all_attempts(
    engine: Engine,
) -> None:
    at = reach(engine, "pivot")
    engine.abort(at.saga)
    at.worker.release(at.held)
    assert engine.abort(at.saga) == "COMPENSATING"
    undo = at.worker.claim_one()
    assert at.worker.say(undo, "retry", after=timedelta()).status == "COMPENSATING"
    assert undo_all(at) == ["charge", "reserve"]

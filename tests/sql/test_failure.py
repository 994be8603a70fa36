"""What a failure for good makes of a saga, wherever it stands: undone, suspended, or failed."""

from datetime import timedelta

import pytest

from tests.sql.engine import BOTH_WAYS, Engine
from tests.sql.outcomes import FAILURES, GRACE, NO_EFFECT, UNKNOWN, is_held
from tests.sql.positions import reach, use_up

pytestmark = BOTH_WAYS

ATTEMPTS = {"before the pivot": 3, "first": 3}


@pytest.mark.parametrize(
    ("position", "failure", "undo"),
    [
        *[("before the pivot", failure, "reserve") for failure in NO_EFFECT],
        *[("nothing to undo", failure, "reserve") for failure in FAILURES],
        *[("pivot", failure, "charge") for failure in NO_EFFECT],
        *[("transactional", failure, "hold") for failure in FAILURES],
        *[("transactional pivot", failure, "post") for failure in FAILURES],
    ],
)
def test_a_step_that_failed_for_good_has_what_is_before_it_undone_at_once(
    engine: Engine, position: str, failure: str, undo: str
) -> None:
    at = reach(engine, position)
    use_up(at, ATTEMPTS.get(position, 2))
    before = engine.row(at.saga)
    outcome, more = FAILURES[failure]
    answer = at.worker.say(at.held, outcome, **more)
    row, last = engine.row(at.saga), engine.last(at.saga)
    assert (answer.verdict, answer.status) == ("applied", "COMPENSATING")
    is_held(at, answer, "compensation", undo, {"charge": 7, "reserve": 7}.get(undo, 60))
    assert (row.status, row.state, row.ordinal) == (
        *("COMPENSATING", "COMPENSATING", before.ordinal + 1),
    )
    done = {t.step: t.ordinal for t in engine.history(at.saga) if t.outcome == "done"}
    assert row.undoes == done[undo]
    in_doubt = position == "nothing to undo" and failure in UNKNOWN
    assert last.outcome == ("in_doubt" if in_doubt else "rejected")
    assert (last.from_status, last.to_status) == ("EXECUTING", "COMPENSATING")


@pytest.mark.parametrize("failure", UNKNOWN)
@pytest.mark.parametrize("position", ["first", "before the pivot"])
def test_a_step_left_in_doubt_is_undone_first_and_not_before_its_effect_can_have_landed(
    engine: Engine, position: str, failure: str
) -> None:
    at = reach(engine, position)
    use_up(at, 3)
    outcome, more = FAILURES[failure]
    at.worker.say(at.held, outcome, **more)
    row, last = engine.row(at.saga), engine.last(at.saga)
    wait = more.get("doubt_for", timedelta()) + GRACE
    assert (last.outcome, row.status, row.kind) == ("in_doubt", "COMPENSATING", "compensation")
    assert (row.step, row.undoes) == (last.step, last.ordinal)
    assert (row.worker, row.deadline, row.doubt_until) == (None, None, None)
    assert last.due_at == row.due_at == last.at + wait
    assert at.worker.claim() == []
    engine.pass_time_until(row.due_at)
    undo = engine.worker().claim_one()
    assert (undo.kind, undo.step, undo.attempt, undo.in_doubt) == (
        *("compensation", last.step, 1, False),
    )
    assert undo.results is None or last.step not in undo.results


def test_a_doubt_outlives_the_attempts_that_had_no_effect(engine: Engine) -> None:
    at = reach(engine, "before the pivot")
    at.worker.say(at.held, "in_doubt", doubt_for=timedelta(minutes=1), after=timedelta())
    doubt_until = engine.row(at.saga).doubt_until
    again = at.worker.claim_one()
    assert again.in_doubt
    at.worker.say(again, "rejected")
    row, last = engine.row(at.saga), engine.last(at.saga)
    assert (last.outcome, row.step, row.due_at) == ("in_doubt", "charge", doubt_until)


def test_the_longest_doubt_counts(engine: Engine) -> None:
    at = reach(engine, "before the pivot")
    at.worker.say(at.held, "in_doubt", doubt_for=timedelta(minutes=1), after=timedelta())
    doubt_until = engine.row(at.saga).doubt_until
    at.worker.say(at.worker.claim_one(), "in_doubt", doubt_for=timedelta(0), after=timedelta())
    assert engine.row(at.saga).doubt_until == doubt_until


def test_a_step_that_was_done_in_its_second_attempt_is_undone(engine: Engine) -> None:
    at = reach(engine, "before the pivot")
    at.worker.say(at.held, "retry", no_effect=True, after=timedelta())
    book = at.worker.say(at.worker.claim_one(), "done")
    assert at.worker.say(book, "rejected").step == "charge"


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("position", ["after the pivot", "last", "compensation"])
def test_after_the_pivot_and_in_an_undo_a_failure_for_good_asks_a_person(
    engine: Engine, position: str, failure: str
) -> None:
    at = reach(engine, position)
    use_up(at, 2)
    before = engine.row(at.saga)
    outcome, more = FAILURES[failure]
    answer = at.worker.say(at.held, outcome, **more)
    row, last = engine.row(at.saga), engine.last(at.saga)
    assert (answer.verdict, answer.status, answer.fence) == ("applied", "SUSPENDED", None)
    assert (row.kind, row.step, row.undoes, row.ordinal, row.state) == (
        *(before.kind, before.step, before.undoes, before.ordinal, before.state),
    )
    assert (row.status, row.worker, row.attempt) == ("SUSPENDED", None, before.attempt + 1)
    assert f'"{before.step}"' in row.reason
    assert f"{row.attempt} attempts" in row.reason
    assert (row.doubt_until is not None) == (failure in UNKNOWN)
    assert last.to_status == "SUSPENDED"
    engine.pass_time(timedelta(days=1))
    assert engine.worker().claim() == []


@pytest.mark.parametrize("failure", UNKNOWN)
def test_a_pivot_left_in_doubt_asks_a_person(engine: Engine, failure: str) -> None:
    at = reach(engine, "pivot")
    use_up(at, 2)
    outcome, more = FAILURES[failure]
    assert at.worker.say(at.held, outcome, **more).status == "SUSPENDED"
    assert engine.last(at.saga).outcome == "in_doubt"
    assert "in doubt" in engine.row(at.saga).reason


@pytest.mark.parametrize("failure", NO_EFFECT)
@pytest.mark.parametrize("type_", ["order", "single"])
def test_where_there_is_nothing_to_undo_the_saga_fails_with_the_error(
    engine: Engine, type_: str, failure: str
) -> None:
    saga, worker = engine.start(type_), engine.worker(type_)
    held = worker.claim_one()
    outcome, more = FAILURES[failure]
    more = {"give_up": outcome == "retry", **more}
    answer = worker.say(held, outcome, **more)
    ended = engine.instance(saga)
    assert (answer.verdict, answer.status, answer.fence) == ("applied", "FAILED", None)
    assert (ended.status, ended.state, ended.output) == ("FAILED", "FAILED", None)
    assert ended.error == {"type": "Boom", "message": "it broke"}
    assert ended.ended_at == engine.last(saga).at
    assert engine.rows("select * from outbox") == []


def test_undo_runs_in_reverse_skips_what_has_none_and_ends_with_the_first_error(
    engine: Engine,
) -> None:
    at = reach(engine, "pivot")
    held = at.worker.say(at.held, "rejected", error='{"type": "Full", "message": "no room"}')
    undone = []
    while held.status == "COMPENSATING":
        undone.append(held.step)
        held = at.worker.say(held, "done")
    assert undone == ["charge", "reserve"]
    assert (held.status, held.fence) == ("FAILED", None)
    assert engine.instance(at.saga).error == {"type": "Full", "message": "no room"}
    assert [t.undoes for t in engine.history(at.saga) if t.kind == "compensation"] == [3, 1]


def test_an_undo_tries_again_after_a_doubt_at_its_backoff(engine: Engine) -> None:
    at = reach(engine, "compensation")
    at.worker.say(at.held, "in_doubt", doubt_for=timedelta(hours=1), after=timedelta())
    again = at.worker.claim_one()
    assert (again.kind, again.step, again.attempt, again.in_doubt) == (
        *("compensation", "charge", 2, True),
    )
    assert at.worker.say(again, "done").step == "reserve"

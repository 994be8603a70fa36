"""What a step that is done, and one that is tried again, make of a saga wherever it stands."""

from datetime import timedelta

import pytest

from tests.sql.engine import BOTH_WAYS, Engine
from tests.sql.outcomes import FAILURES, GRACE, UNKNOWN, is_held
from tests.sql.positions import reach

pytestmark = BOTH_WAYS


@pytest.mark.parametrize(
    ("position", "state", "next_step", "timeout"),
    [
        ("first", "RESERVED", "inspect", 60),
        ("nothing to undo", "INSPECTED", "charge", 5),
        ("before the pivot", "CHARGED", "book", 60),
        ("pivot", "BOOKED", "mail", 60),
        ("after the pivot", "MAILED", "archive", 60),
        ("transactional", "POST_DONE", "settle", 60),
    ],
)
def test_a_step_that_is_done_is_followed_by_the_next_in_the_same_hand(
    engine: Engine, position: str, state: str, next_step: str, timeout: int
) -> None:
    at = reach(engine, position)
    before = engine.row(at.saga)
    took = 3.25
    answer = at.worker.say(at.held, "done", result='{"id": 7}', took=took)
    row, last = engine.row(at.saga), engine.last(at.saga)
    assert (answer.verdict, answer.status) == ("applied", "EXECUTING")
    is_held(at, answer, "action", next_step, timeout)
    assert (row.status, row.state, row.ordinal) == ("EXECUTING", state, before.ordinal + 1)
    assert answer.seq == row.seq == last.seq == before.seq + 1
    assert (last.outcome, last.result, last.took, last.worker) == (
        *("done", {"id": 7}, took, at.worker.id),
    )
    assert (last.from_status, last.to_status, last.state) == ("EXECUTING", "EXECUTING", state)
    assert row.moved_at == last.at


@pytest.mark.parametrize("position", ["last", "transactional pivot"])
def test_the_last_step_completes_the_saga_with_its_result(engine: Engine, position: str) -> None:
    at = reach(engine, position)
    answer = at.worker.say(at.held, "done", result='{"receipt": 1}')
    ended, last = engine.instance(at.saga), engine.last(at.saga)
    assert (answer.verdict, answer.status, answer.fence) == ("applied", "COMPLETED", None)
    assert (ended.status, ended.state, ended.output) == ("COMPLETED", "COMPLETED", {"receipt": 1})
    assert (ended.error, ended.ended_at) == (None, last.at)
    assert engine.rows("select * from outbox") == []
    assert (last.from_status, last.to_status) == ("EXECUTING", "COMPLETED")


@pytest.mark.parametrize("failure", ["retry", "in doubt", "without effect"])
@pytest.mark.parametrize(
    "position",
    ["first", "nothing to undo", "pivot", "after the pivot", "compensation", "transactional"],
)
def test_a_failed_attempt_is_made_again_after_its_backoff(
    engine: Engine, position: str, failure: str
) -> None:
    at = reach(engine, position)
    before = engine.row(at.saga)
    outcome, more = FAILURES[failure]
    answer = at.worker.say(at.held, outcome, **more)
    row, last = engine.row(at.saga), engine.last(at.saga)
    assert (answer.verdict, answer.status, answer.fence) == ("applied", before.status, None)
    assert (row.status, row.state, row.kind, row.step, row.ordinal, row.undoes) == (
        *(before.status, before.state, before.kind, before.step, before.ordinal, before.undoes),
    )
    assert (row.attempt, row.failures, row.worker, row.deadline) == (1, 1, None, None)
    assert last.outcome == ("retry" if position == "transactional" else outcome)
    assert last.error == {"type": "Boom", "message": "it broke"}
    assert last.due_at == row.due_at
    cap = timedelta(seconds=4 if position == "compensation" else 8)
    assert timedelta() <= row.due_at - last.at <= cap
    in_doubt = failure in UNKNOWN and position != "transactional"
    doubt_for = more.get("doubt_for", timedelta()) + GRACE
    assert row.doubt_until == (last.at + doubt_for if in_doubt else None)
    # A key of its own for the next attempt only where this one is known to have had no effect.
    assert row.revision == (failure == "without effect")

    engine.pass_time_until(row.due_at)
    again = engine.worker(at.worker.types[0]).claim_one()
    assert (again.attempt, again.revision, again.in_doubt) == (2, row.revision, in_doubt)


def test_an_attempt_can_say_when_to_try_again(engine: Engine) -> None:
    at = reach(engine, "first")
    at.worker.say(at.held, "retry", after=timedelta(minutes=10))
    assert engine.row(at.saga).due_at == engine.last(at.saga).at + timedelta(minutes=10)
    engine.pass_time(timedelta(minutes=9))
    assert at.worker.heartbeat()
    assert at.worker.claim() == []
    engine.pass_time(timedelta(minutes=2))
    assert at.worker.claim_one().attempt == 2


def test_backoff_grows_to_its_cap(engine: Engine) -> None:
    longest = engine.value(
        "select max(retry_delay('8 seconds', '60 seconds', f.n)) "
        "from generate_series(1, 2000), (values (0), (1), (2), (40)) as f(n) group by f.n "
        "order by f.n limit 1"
    )
    assert timedelta(seconds=7) < longest <= timedelta(seconds=8)
    assert engine.value(
        "select max(retry_delay('8 seconds', '60 seconds', 60)) <= '60 seconds' "
        "and max(retry_delay('8 seconds', '60 seconds', 60)) > '50 seconds' "
        "from generate_series(1, 2000)"
    )


def test_an_uncounted_failure_does_not_use_up_the_policy(engine: Engine) -> None:
    at = reach(engine, "nothing to undo")
    for attempt in range(1, 6):
        at.worker.say(at.held, "in_doubt", counted=False, after=timedelta())
        row = engine.row(at.saga)
        assert (row.attempt, row.failures, row.status) == (attempt, 0, "EXECUTING")
        at.held = at.worker.claim_one()
    at.worker.say(at.held, "done")


@pytest.mark.parametrize("outcome", ["done", "done while paused", "rejected"])
@pytest.mark.parametrize("trouble", ["in_doubt", "retry"])
def test_no_trouble_of_a_command_follows_the_saga_to_its_next_one(
    engine: Engine, trouble: str, outcome: str
) -> None:
    """Which has the whole of its policy, its own idempotency key, and nothing in doubt."""
    at = reach(engine, "before the pivot")
    more = {"no_effect": True} if trouble == "retry" else {"doubt_for": timedelta(hours=1)}
    at.worker.say(at.held, trouble, after=timedelta(), **more)
    row = engine.row(at.saga)
    assert (row.failures, row.revision, row.doubt_until is None) == (
        *(1, int(trouble == "retry"), trouble == "retry"),
    )
    held = at.worker.claim_one()
    if outcome == "done while paused":
        engine.act("pause_saga", at.saga, "wait")
    at.worker.say(held, outcome.split()[0])
    row = engine.row(at.saga)
    assert row.step != "charge" or row.kind == "compensation"
    assert (row.attempt, row.failures, row.revision, row.doubt_until) == (0, 0, 0, None)

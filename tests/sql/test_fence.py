"""Who may commit: the holder of the fence, once; asked again, it gets the same answer."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from outbox.store.functions import Claimed
from tests.sql.engine import Engine, Worker, report
from tests.sql.outcomes import FAILURES
from tests.sql.positions import POSITIONS, reach
from tests.waiting import wait_until


@pytest.mark.parametrize("outcome", ["done", *FAILURES])
@pytest.mark.parametrize("position", [*POSITIONS, "compensation"])
def test_an_outcome_told_twice_is_applied_once_and_answered_alike(
    engine: Engine, position: str, outcome: str
) -> None:
    at = reach(engine, position)
    name, more = FAILURES.get(outcome, (outcome, {}))
    told = report(at.held, name, **more)
    (first,) = at.worker.advance(told)
    before = engine.everything()
    assert first.verdict == "applied"
    assert at.worker.advance(told) == [first._replace(verdict="replayed")]
    assert at.worker.recall((told.command, told.fence)) == [first._replace(verdict="replayed")]
    assert engine.everything() == before


def test_a_batch_told_twice_is_answered_alike(engine: Engine) -> None:
    for _ in range(5):
        engine.start()
    worker = engine.worker()
    told = [report(held, "done") for held in worker.claim()]
    first = worker.advance(*told)
    assert worker.advance(*told[::-1]) == [a._replace(verdict="replayed") for a in first[::-1]]


def test_a_batch_may_hold_what_is_new_what_is_known_and_what_is_lost(engine: Engine) -> None:
    for key in ("new", "known", "released", "suspended"):
        engine.start(key=key)
    worker = engine.worker()
    held = {claimed.key: claimed for claimed in worker.claim()}
    known = worker.say(held["known"], "done")
    worker.release(held["released"])
    (_, suspended) = worker.advance(
        report(known, "done"), report(worker.do(held["suspended"], until="mail"), "rejected")
    )
    before = engine.history(held["released"].command)
    reports = {key: report(claimed, "done") for key, claimed in held.items()}
    del reports["suspended"]
    answers = dict(zip(reports, worker.advance(*reports.values()), strict=True))
    assert {key: answer.verdict for key, answer in answers.items()} == {
        "new": "applied",
        "known": "replayed",
        "released": "fenced",
    }
    assert (answers["new"].step, answers["new"].status) == ("inspect", "EXECUTING")
    assert (answers["known"].status, answers["known"].seq) == ("EXECUTING", 1)
    assert (answers["known"].fence, answers["released"].fence) == (None, None)
    assert engine.history(held["released"].command) == before
    assert suspended.status == "SUSPENDED"


def test_an_outcome_told_again_long_after_the_end_gets_its_answer(engine: Engine) -> None:
    at = reach(engine, "first")
    told = report(at.held, "done")
    first = at.worker.advance(told)[0]
    at.worker.say(at.worker.do(first, until="archive"), "done")
    before = engine.everything()
    again = at.worker.advance(told)[0]
    assert (again.verdict, again.status, again.seq, again.fence) == (
        *("replayed", first.status, 1, None),
    )
    assert engine.everything() == before


def test_only_the_holder_under_its_fence_may_commit(engine: Engine) -> None:
    at = reach(engine, "before the pivot")
    other, before = engine.worker(), engine.everything()
    (stolen,) = other.advance(report(at.held, "done"))
    assert (stolen.verdict, stolen.fence) == ("fenced", None)
    for wrong in (-1, 1):
        late = at.held._replace(fence=(at.held.fence or 0) + wrong)
        assert at.worker.say(late, "rejected").verdict in ("fenced", "replayed")
        assert engine.everything() == before
    assert at.worker.say(at.held, "done").verdict == "applied"


def test_a_command_of_no_saga_is_fenced(engine: Engine) -> None:
    at = reach(engine, "first")
    assert at.worker.say(at.held._replace(command=at.worker.id), "done").verdict == "fenced"
    assert at.worker.advance() == []


@pytest.mark.parametrize("position", ["before the pivot", "last"])
def test_two_at_once_with_one_outcome_apply_it_once(engine: Engine, position: str) -> None:
    at = reach(engine, position)
    told = report(at.held, "done")
    with (
        engine.schema.connect(autocommit=False) as one,
        engine.schema.connect() as other,
        ThreadPoolExecutor() as executor,
    ):
        (first,) = at.worker.advance(told, connection=one)
        second = executor.submit(at.worker.advance, told, connection=other)
        wait_until(lambda: engine.is_waiting(other))
        one.commit()
        assert second.result(timeout=20) == [first._replace(verdict="replayed")]


def test_those_who_took_over_from_each_other_do_not_wait_in_a_ring(engine: Engine) -> None:
    """Each tells of a command of its own and of one that is the other's by now, at once."""
    one, other = engine.worker(), engine.worker()

    def take_over(before: Worker, after: Worker) -> tuple[Claimed, Claimed]:
        engine.start()
        stale = before.claim_one()
        before.release(stale)
        return stale, after.claim_one()

    stale_of_one, of_other = take_over(one, other)
    stale_of_other, of_one = take_over(other, one)
    with engine.schema.connect(autocommit=False) as theirs:
        other.advance(report(of_other, "done"), connection=theirs)
        engine.execute("set lock_timeout = '2s'")
        told = [report(of_one, "done"), report(stale_of_one, "done")]
        assert {a.verdict for a in one.advance(*told)} == {"applied", "fenced"}
    with engine.schema.connect(autocommit=False) as mine:
        one.advance(report(stale_of_one, "done"), connection=mine)
        (answer,) = other.advance(report(stale_of_other, "done"))
        assert answer.verdict == "fenced"


def test_recall_waits_for_a_commit_under_way_and_knows_what_is_still_open(engine: Engine) -> None:
    at = reach(engine, "first")
    assert at.held.fence is not None
    command = (at.saga, at.held.fence)
    assert [a.verdict for a in at.worker.recall(command)] == ["open"]
    assert [a.verdict for a in engine.worker().recall(command)] == ["fenced"]
    with engine.schema.connect(autocommit=False) as one, ThreadPoolExecutor() as executor:
        (first,) = at.worker.advance(report(at.held, "done"), connection=one)
        pending = executor.submit(at.worker.recall, command)
        wait_until(lambda: one.execute("select 1 from pg_locks where not granted").fetchone())
        one.commit()
        assert pending.result(timeout=20) == [first._replace(verdict="replayed")]


@pytest.mark.parametrize(
    "bad",
    [
        {"outcome": "dnoe"},
        {"result": "{"},
        {"result": '"\\u0000"'},
        {"outcome": "retry", "error": None},
        {"outcome": "fine"},
    ],
    ids=str,
)
def test_an_outcome_that_cannot_be_stored_fails_the_batch_and_changes_nothing(
    engine: Engine, bad: dict[str, Any]
) -> None:
    engine.start()
    engine.start()
    worker = engine.worker()
    good, other = worker.claim()
    before = engine.everything()
    with pytest.raises(psycopg.Error):
        worker.advance(report(good, "done"), report(other, **{"outcome": "done", **bad}))
    assert engine.everything() == before
    answers = worker.advance(report(good, "done"), report(other, "done"))
    assert [answer.verdict for answer in answers] == ["applied", "applied"]


def test_what_a_worker_locked_nobody_else_takes_and_a_silent_client_is_cut_off(
    engine: Engine,
) -> None:
    engine.start(key="mine")
    engine.start(key="lost")
    worker = engine.worker()
    mine, lost = worker.claim()
    worker.release(lost)
    statement = "select * from lock_held(%s, %s, %s::int[], %s)"
    with engine.schema.connect(autocommit=False) as connection:
        locked = connection.execute(
            statement,
            (worker.id, [lost.command, mine.command], [lost.fence, mine.fence], "1 minute"),
        ).fetchall()
        assert locked == [(mine.command,)]
        timeout = connection.execute("show idle_in_transaction_session_timeout").fetchone()
        assert timeout == ("1min",)
        engine.pass_time(timedelta(hours=1))
        assert engine.reap() == []
        connection.rollback()
        assert connection.execute("show idle_in_transaction_session_timeout").fetchone() == ("0",)
    assert [taken.command for taken in engine.reap()] == [mine.command]


def test_of_what_was_claimed_anew_or_by_another_a_transaction_locks_nothing(engine: Engine) -> None:
    """Else what its handlers write would be committed, though nobody moves the command."""
    saga = engine.start()
    worker, other = engine.worker(), engine.worker()
    before = worker.claim_one()
    worker.release(before)
    held = worker.claim_one()

    def locked(holder: Worker, fence: int) -> list[Any]:
        found = engine.rows(
            "select command from lock_held(%s, %s, %s::int[], '1 minute')",
            *(holder.id, [saga], [fence]),
        )
        return [row.command for row in found]

    assert [locked(worker, held.fence + n) for n in (-2, -1, 1)] == [[], [], []]
    assert locked(other, held.fence) == []
    assert locked(worker, held.fence) == [saga]

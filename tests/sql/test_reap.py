"""Workers that die, that are slow, and that leave in order."""

from datetime import timedelta

import pytest

from outbox import Saga
from tests.sql.engine import BOTH_WAYS, LEASE, Engine, report
from tests.sql.positions import At, reach
from tests.sql.sagas import Order, act, act_in, make_single

HOUR = timedelta(hours=1)


def die(at: At) -> None:
    """The worker stops; its lease runs out. Whoever else lives is to have a longer lease."""
    at.engine.pass_time(LEASE + timedelta(seconds=1))


@pytest.mark.parametrize("position", ["before the pivot", "pivot", "after the pivot", "last"])
def test_a_dead_workers_command_runs_again_elsewhere_under_the_same_key(
    engine: Engine, position: str
) -> None:
    at = reach(engine, position)
    before = engine.row(at.saga)
    die(at)
    (lost,) = engine.reap()
    row, last = engine.row(at.saga), engine.last(at.saga)
    assert (lost.command, lost.type, lost.step, lost.attempt) == (at.saga, "order", row.step, 1)
    assert (lost.holder, lost.suspended) == (at.worker.id, False)
    assert (row.status, row.step, row.worker, row.deadline) == (
        "EXECUTING",
        before.step,
        None,
        None,
    )
    assert (row.attempt, row.failures, row.deaths, row.revision) == (1, 0, 1, 0)
    assert row.due_at == row.moved_at == last.at
    assert row.doubt_until == before.deadline + timedelta(seconds=2)
    assert (last.outcome, last.error["type"], last.worker) == (
        *("in_doubt", "WorkerDied", at.worker.id),
    )
    assert engine.rows("select * from worker") == []
    other = engine.worker()
    again = other.claim_one()
    assert (again.step, again.attempt, again.revision, again.in_doubt) == (
        *(before.step, 2, 0, True),
    )
    assert other.say(again, "done").verdict == "applied"


@pytest.mark.parametrize("outcome", ["done", "rejected", "in_doubt"])
def test_a_zombies_outcome_counts_for_nothing(engine: Engine, outcome: str) -> None:
    at = reach(engine, "before the pivot")
    die(at)
    engine.reap()
    before = engine.everything()
    assert at.worker.say(at.held, outcome).verdict == "fenced"
    assert engine.everything() == before
    other = engine.worker()
    again = other.claim_one()
    assert at.worker.say(at.held, outcome).verdict == "fenced"
    assert other.say(again, "done").step == "book"


def test_a_zombie_is_refused_even_when_its_worker_holds_the_command_again(engine: Engine) -> None:
    at = reach(engine, "before the pivot")
    engine.pass_time_until(engine.row(at.saga).deadline + timedelta(seconds=2))
    engine.execute("update worker set expires_at = clock() + '1 hour'")
    assert [lost.command for lost in engine.reap()] == [at.saga]
    again = at.worker.claim_one()
    before = engine.everything()
    assert [a.verdict for a in at.worker.recall((again.command, again.fence))] == ["open"]
    assert at.worker.say(at.held, "done").verdict == "fenced"
    assert at.worker.release(at.held) == set()
    assert engine.everything() == before
    assert at.worker.say(again, "done").verdict == "applied"


def test_a_live_worker_keeps_what_it_holds(engine: Engine) -> None:
    at = reach(engine, "first")
    for _ in range(3):
        engine.pass_time(LEASE - timedelta(seconds=4))
        assert at.worker.heartbeat()
        assert engine.reap() == []
    assert at.worker.held() == {at.saga}
    assert at.worker.say(at.held, "done").verdict == "applied"


def test_death_is_final(engine: Engine) -> None:
    at = reach(engine, "first")
    die(at)
    assert at.worker.heartbeat(), "before the reaper came a late heartbeat still counts"
    assert engine.reap() == []
    die(at)
    assert engine.reap() != []
    assert not at.worker.heartbeat()


def test_a_deadline_that_passed_is_taken_even_from_a_live_worker(engine: Engine) -> None:
    saga = engine.start()
    worker = engine.worker(lease=HOUR)
    worker.claim_one()
    deadline = engine.row(saga).deadline
    engine.pass_time_until(deadline)
    assert engine.reap() == [], "not before the grace is over, too"
    engine.pass_time(3)
    (lost,) = engine.reap()
    assert (lost.holder, engine.last(saga).error["type"]) == (worker.id, "DeadlinePassed")
    assert engine.row(saga).doubt_until == deadline + timedelta(seconds=2)
    assert worker.held() == set()
    assert worker.heartbeat(), "the worker itself lives"


def test_a_straggler_of_a_worker_that_is_gone_is_caught_by_the_next_sweep(engine: Engine) -> None:
    saga, worker = engine.start(), engine.worker()
    with engine.schema.connect(autocommit=False) as slow:
        slow.execute(
            "update outbox set worker = %s, deadline = clock() + '1 hour', fence = fence + 1, "
            "status = 'EXECUTING'",
            (worker.id,),
        )
        engine.pass_time(LEASE + timedelta(seconds=1))
        assert engine.reap() == []
        assert engine.rows("select * from worker") == []
        slow.commit()
    assert [lost.command for lost in engine.reap()] == [saga]


def test_a_claim_of_a_dead_worker_that_commits_after_the_sweep_is_caught(engine: Engine) -> None:
    saga, worker = engine.start(), engine.worker()
    with engine.schema.connect(autocommit=False) as slow:
        assert [c.command for c in worker.claim(1, slow)] == [saga]
        engine.pass_time(LEASE + timedelta(seconds=1))
        assert engine.reap() == []
        slow.commit()
    assert [lost.command for lost in engine.reap()] == [saga]


def test_who_died_several_times_is_due_at_random_so_that_it_passes_by_what_killed_it(
    engine: Engine,
) -> None:
    at = reach(engine, "before the pivot")
    for deaths in (1, 2, 3):
        die(at)
        engine.reap()
        row = engine.row(at.saga)
        wait = (row.due_at - row.moved_at).total_seconds()
        assert wait == 0 if deaths == 1 else 0 < wait <= 2**deaths
        engine.pass_time(8)
        at.worker = engine.worker()
        at.worker.claim_one()


def test_after_some_deaths_the_saga_asks_a_person(engine: Engine) -> None:
    at = reach(engine, "before the pivot")
    for deaths in range(1, 6):
        die(at)
        (lost,) = engine.reap()
        assert (engine.row(at.saga).deaths, lost.suspended) == (deaths, deaths == 5)
        if deaths < 5:
            engine.pass_time(32)
            at.worker = engine.worker()
            at.worker.claim_one()
    row = engine.row(at.saga)
    assert (row.status, row.failures, row.attempt) == ("SUSPENDED", 0, 5)
    assert row.reason == 'step "charge" (action): 5 workers died while they ran it'
    assert engine.worker().claim() == []
    assert engine.retry(at.saga) == "EXECUTING"
    assert (engine.row(at.saga).deaths, engine.row(at.saga).revision) == (0, 0)
    worker = engine.worker()
    assert worker.say(worker.claim_one(), "done").step == "book"


def test_deaths_of_one_command_do_not_count_for_the_next(engine: Engine) -> None:
    at = reach(engine, "first")
    die(at)
    engine.reap()
    worker = engine.worker()
    worker.say(worker.claim_one(), "done")
    assert engine.row(at.saga).deaths == 0


def test_an_undo_that_kills_its_worker_is_suspended_as_such(engine: Engine) -> None:
    engine.execute("update setting set max_deaths = 1")
    at = reach(engine, "compensation")
    die(at)
    (lost,) = engine.reap()
    row = engine.row(at.saga)
    assert (lost.suspended, row.status, row.kind, row.step) == (
        *(True, "SUSPENDED", "compensation", "charge"),
    )
    assert engine.retry(at.saga) == "COMPENSATING"


@pytest.mark.parametrize("position", ["transactional", "transactional pivot"])
def test_a_transactional_step_was_rolled_back_with_its_worker(
    engine: Engine, position: str
) -> None:
    at = reach(engine, position)
    die(at)
    engine.reap()
    row, last = engine.row(at.saga), engine.last(at.saga)
    assert (last.outcome, row.doubt_until, row.deaths) == ("retry", None, 1)
    worker = engine.worker("entry")
    undo = worker.say(worker.claim_one(), "rejected")
    assert (undo.kind, undo.step) == (
        *("compensation", "hold" if position == "transactional" else "post"),
    )


def test_a_command_in_doubt_since_a_death_is_undone_only_after_the_deadline(
    engine: Engine,
) -> None:
    at = reach(engine, "before the pivot")
    die(at)
    engine.reap()
    doubt_until = engine.row(at.saga).doubt_until
    assert doubt_until > engine.now()
    worker = engine.worker()
    worker.say(worker.claim_one(), "rejected")
    row = engine.row(at.saga)
    assert (row.status, row.step, row.due_at) == ("COMPENSATING", "charge", doubt_until)


@BOTH_WAYS
def test_of_several_doubts_the_longest_counts(engine: Engine) -> None:
    """What an earlier attempt may still do outlasts the later one, however that ends."""
    at = reach(engine, "before the pivot")
    at.worker.say(at.held, "in_doubt", doubt_for=HOUR, after=timedelta())
    longest = engine.row(at.saga).doubt_until
    at.worker.say(at.worker.claim_one(), "in_doubt", after=timedelta())
    assert engine.row(at.saga).doubt_until == longest
    at.worker.claim_one()
    die(at)
    assert len(engine.reap()) == 1
    assert engine.row(at.saga).doubt_until == longest > engine.now()


@BOTH_WAYS
@pytest.mark.parametrize("transactional", [False, True], ids=["plain", "transactional"])
def test_whether_an_undo_was_rolled_back_its_own_kind_says(
    engine: Engine, transactional: bool
) -> None:
    """Not its action's, which here is of the other kind."""
    mixed = Saga("mixed", input=Order)
    step = mixed.step(name="do", transactional=not transactional)(act if transactional else act_in)
    step.compensation(transactional=transactional)(act_in if transactional else act)
    mixed.step(name="fail", nothing_to_undo="it reads")(act)
    engine.register(mixed)
    saga, worker = engine.start("mixed"), engine.worker("mixed")
    undo = worker.say(worker.say(worker.claim_one(), "done"), "rejected")
    worker.say(undo, "in_doubt", after=timedelta())
    outcomes, doubts = [engine.last(saga).outcome], [engine.row(saga).doubt_until]
    die(At(engine, saga, worker, worker.claim_one()))
    assert len(engine.reap()) == 1
    outcomes.append(engine.last(saga).outcome)
    doubts.append(engine.row(saga).doubt_until)
    assert outcomes == ["retry" if transactional else "in_doubt"] * 2
    assert [doubt is None for doubt in doubts] == [transactional] * 2


@pytest.mark.parametrize("child", [None, "completed"])
def test_who_dies_over_a_sub_saga_leaves_nothing_that_could_still_land(
    engine: Engine, child: str | None
) -> None:
    """A sub-saga is started by the transition of its step, or not at all."""
    outer, single = Saga("outer", input=Order), make_single()
    outer.run("sub", single, input=lambda cmd: cmd.input)
    outer.step(name="last", nothing_to_undo="it reads")(act)
    engine.register(single, outer)
    saga, worker = engine.start("outer"), engine.worker("outer", "single")
    held = worker.claim_one()
    if child:
        plan = '{"await": "saga", "type": "single", "input": {}, "key": "inner", "version": 1}'
        worker.say(held, "waiting", result=plan)
        worker.say(worker.claim_one(), "done")
        held = worker.claim_one()
    assert (held.command, held.step) == (saga, "sub")
    engine.pass_time(LEASE + timedelta(seconds=1))
    engine.reap()
    engine.abort(saga)
    undo = engine.worker("outer", "single").claim_one()
    assert (undo.command, undo.kind, undo.step) == (saga, "compensation", "sub")


@pytest.mark.parametrize("how", ["release", "deregister"])
def test_what_is_given_back_in_order_counts_for_nothing(engine: Engine, how: str) -> None:
    at = reach(engine, "before the pivot")
    before = engine.row(at.saga)
    if how == "release":
        assert at.worker.release(at.held) == {at.saga}
        assert at.worker.release(at.held) == set()
    else:
        at.worker.deregister()
        assert engine.rows("select * from worker") == []
    row = engine.row(at.saga)
    assert row.fence == before.fence + 1
    assert (row.worker, row.deadline) == (None, None)
    for name in ("seq", "attempt", "failures", "deaths", "due_at", "moved_at", "doubt_until"):
        assert getattr(row, name) == getattr(before, name)
    assert at.worker.say(at.held, "done").verdict == "fenced"
    other = engine.worker()
    assert other.claim_one().attempt == 1


def test_a_release_takes_only_what_is_the_workers_own(engine: Engine) -> None:
    mine, theirs = reach(engine, "first"), reach(engine, "pivot")
    assert mine.worker.release(theirs.held, mine.held) == {mine.saga}
    assert theirs.worker.held() == {theirs.saga}


def test_what_others_have_locked_is_left_for_the_next_sweep(engine: Engine) -> None:
    at, other = reach(engine, "first"), reach(engine, "pivot")
    die(at)
    with engine.schema.connect(autocommit=False) as busy:
        at.worker.advance(report(at.held, "done"), connection=busy)
        assert [lost.command for lost in engine.reap()] == [other.saga]
        busy.rollback()
    assert [lost.command for lost in engine.reap()] == [at.saga]


def test_a_sweep_is_bounded(engine: Engine) -> None:
    for _ in range(5):
        engine.start()
    worker = engine.worker()
    worker.claim()
    engine.pass_time(60)
    assert [len(engine.reap(limit=3)) for _ in range(3)] == [3, 2, 0]

"""What people read: the views, alerts, and what retention removes."""

from datetime import timedelta
from uuid import UUID

from psycopg import sql

from tests.sql.engine import Engine, Rows
from tests.sql.positions import reach, suspend

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def view(engine: Engine, name: str, saga: UUID | None = None) -> Rows:
    rows = engine.rows(sql.SQL("select * from {}").format(sql.Identifier(name)))
    return [row for row in rows if saga in (None, row.saga_id)]


def alerts(engine: Engine) -> list[tuple[str, str]]:
    """Raises what is to be raised; the kind and the message of what is new."""
    return [(row.kind, row.message) for row in engine.rows("select * from raise_alerts()")]


def purge(engine: Engine, limit: int = 500) -> int:
    """Runs every batch; how many sagas were removed."""
    removed, after = 0, None
    while batch := engine.rows("select * from purge(%s, %s)", limit, after):
        removed += batch[0].removed
        after = batch[0].next_after
        assert batch[0].removed <= limit
        if after is None:
            break
    return removed


def test_overview_shows_the_living_and_the_finished(engine: Engine) -> None:
    at, done = reach(engine, "pivot"), reach(engine, "last")
    created = engine.start(key="new")
    done.worker.say(done.held, "done", result='{"ok": true}')
    rows = {row.saga_id: row for row in view(engine, "overview")}
    assert {saga: (row.status, row.state, row.step) for saga, row in rows.items()} == {
        created: ("CREATED", "CREATED", "reserve"),
        at.saga: ("EXECUTING", "CHARGED", "book"),
        done.saga: ("COMPLETED", "COMPLETED", None),
    }
    assert (rows[created].key, rows[at.saga].seq, rows[at.saga].worker) == ("new", 3, at.worker.id)
    finished = rows[done.saga]
    assert (finished.output, finished.seq) == ({"ok": True}, None)
    assert finished.age == finished.ended_at - finished.created_at


def test_timeline_tells_a_saga_from_its_start_to_its_end(engine: Engine) -> None:
    saga, worker = engine.start(key="k"), engine.worker()
    held = worker.say(worker.claim_one(), "done")
    worker.say(held, "retry", after=timedelta())
    undo = worker.say(worker.claim_one(), "rejected")
    worker.say(undo, "rejected")
    engine.retry(saga, "provider is back")
    worker.say(worker.claim_one(), "done")
    rows = engine.rows("select * from timeline where saga_id = %s order by seq", saga)
    assert [row.seq for row in rows] == list(range(7))
    user = engine.value("select session_user")
    assert [row.what for row in rows] == [
        "order k started",
        "reserve: done",
        "inspect: retry",
        "inspect: in_doubt (attempt 2), now COMPENSATING",
        "undo of reserve: rejected, now SUSPENDED",
        f"retry by {user}: provider is back, now COMPENSATING",
        "undo of reserve: done (attempt 2), now FAILED",
    ]
    assert rows[2].error == "Boom: it broke"
    assert all(row.after >= timedelta() for row in rows[1:])
    assert rows[1].after == rows[1].at - rows[0].at


def test_pending_tells_due_claimed_and_delayed_apart(engine: Engine) -> None:
    held = reach(engine, "first")
    suspend(engine)
    delayed = engine.start(due_at=engine.now() + HOUR)
    due = engine.start()
    rows = {row.saga_id: row for row in view(engine, "pending")}
    assert {saga: row.standing for saga, row in rows.items()} == {
        held.saga: "claimed",
        delayed: "delayed",
        due: "due",
    }
    claimed = rows[held.saga]
    assert (claimed.worker, claimed.host, claimed.pid) == (held.worker.id, "host", 1)
    assert (claimed.attempt, claimed.fence, claimed.step) == (1, held.held.fence, "reserve")
    engine.pass_time(2 * HOUR)
    assert view(engine, "pending", delayed)[0].standing == "due"


def test_stuck_is_what_was_due_and_has_not_moved_for_the_setting(engine: Engine) -> None:
    held, due = reach(engine, "first"), engine.start("entry")
    delayed = engine.start(due_at=engine.now() + timedelta(minutes=4))
    suspend(engine)
    assert view(engine, "stuck") == []
    engine.pass_time(299)
    assert view(engine, "stuck") == []
    engine.pass_time(2)
    rows = {row.saga_id: row for row in view(engine, "stuck")}
    assert rows.keys() == {held.saga, due}
    assert f"held by worker {held.worker.id} (host pid 1) until" in rows[held.saga].why
    assert "no live worker runs entry version 1" in rows[due].why
    assert timedelta(seconds=300) < rows[due].stuck_for < timedelta(seconds=310)
    engine.pass_time(240)
    assert delayed in {row.saga_id for row in view(engine, "stuck")}
    engine.execute("update setting set stuck_after = '1 hour'")
    assert view(engine, "stuck") == []


def test_stuck_with_a_worker_that_could_run_it_says_only_since_when(engine: Engine) -> None:
    engine.start()
    engine.worker(lease=HOUR)
    engine.pass_time(400)
    (row,) = view(engine, "stuck")
    assert row.why.startswith("due since")
    assert "no live worker" not in row.why


def test_manual_intervention_lists_the_suspended_with_reason_and_error(engine: Engine) -> None:
    reach(engine, "pivot")
    after, undo = suspend(engine, "after the pivot", "retry"), suspend(engine, "compensation")
    rows = {row.saga_id: row for row in view(engine, "manual_intervention")}
    assert rows.keys() == {after.saga, undo.saga}
    one = rows[after.saga]
    assert one.reason == 'step "mail" was left in doubt at or after the pivot, after 1 attempt'
    assert (one.in_doubt, one.step, one.kind, one.attempts) == (True, "mail", "action", 1)
    assert (one.error, one.input) == ({"type": "Boom", "message": "it broke"}, {})
    other = rows[undo.saga]
    assert other.reason == 'the compensation of step "charge" failed for good after 1 attempt'
    assert (other.in_doubt, other.seq) == (False, engine.row(undo.saga).seq)


def test_an_alert_is_raised_once_an_episode(engine: Engine) -> None:
    at = suspend(engine)
    stuck = engine.start("entry")
    engine.pass_time(400)
    raised = alerts(engine)
    assert sorted(kind for kind, _ in raised) == ["stuck", "suspended"]
    assert ("suspended", engine.row(at.saga).reason) in raised
    assert alerts(engine) == []
    engine.pass_time(3600)
    assert alerts(engine) == []
    open_alerts = "select saga_id from alert where resolved_at is null order by kind"
    assert [row.saga_id for row in engine.rows(open_alerts)] == [stuck, at.saga]


def test_an_alert_is_resolved_when_it_is_over_and_raised_again_when_it_is_not(
    engine: Engine,
) -> None:
    at = suspend(engine)
    alerts(engine)
    engine.retry(at.saga)
    assert alerts(engine) == []
    assert engine.value("select count(*) from alert where resolved_at is null") == 0
    at.worker.say(at.worker.claim_one(), "rejected")
    assert [kind for kind, _ in alerts(engine)] == ["suspended"]
    engine.resolve(at.saga, "COMPLETED")
    assert alerts(engine) == []
    assert engine.rows("select * from alert where resolved_at is null") == []
    assert engine.value("select count(*) from alert") == 2


def test_of_many_that_an_outage_suspends_some_are_told_and_the_others_counted(
    engine: Engine,
) -> None:
    engine.execute("update setting set alert_most = 3")
    first = [suspend(engine) for _ in range(5)]
    told = [message for _, message in alerts(engine)]
    assert [m.endswith("(and 2 more of order)") for m in told] == [False, False, True]
    suspend(engine)
    more = [suspend(engine) for _ in range(2)]
    assert len(alerts(engine)) == 1, "as long as the first are open, one at each look"
    assert alerts(engine) == []
    names = "select payload ->> 'others' as others from event where name = %s order by number"
    assert [row.others for row in engine.rows(names, "alert.suspended")] == [None, None, "2", "2"]
    assert engine.value("select count(*) from alert where resolved_at is null") == 8
    for at in (*first, *more):
        engine.resolve(at.saga, "COMPLETED")
    alerts(engine)
    assert engine.value("select count(*) from alert where resolved_at is null") == 1
    told_over = "select count(*) from event where name = 'alert.resolved'"
    assert engine.value(told_over) == 3, "those that nobody was told of are not told to be over"
    engine.execute("update setting set alert_most = null")
    for _ in range(5):
        suspend(engine)
    assert len(alerts(engine)) == 5


def test_retention_removes_what_ended_long_ago_with_all_its_history(engine: Engine) -> None:
    old = suspend(engine)
    alerts(engine)
    engine.resolve(old.saga, "COMPLETED")
    engine.start(key="old")
    engine.abort(engine.start(key="old"))
    living = [reach(engine, "pivot").saga, suspend(engine).saga, engine.start()]
    engine.pass_time(29 * DAY)
    assert purge(engine) == 0
    engine.pass_time(2 * DAY)
    young = engine.start()
    engine.abort(young)
    assert purge(engine) == 2
    assert {row.id for row in engine.rows("select id from instance")} == {*living, young}
    for table in ("transition", "act", "alert"):
        assert {row.saga_id for row in view(engine, table)} <= {*living, young}
    again = engine.start(key="old", number=2)
    assert engine.row(again).status == "CREATED", "its key may be used anew"


def test_retention_counts_from_the_end_not_from_the_start(engine: Engine) -> None:
    at = reach(engine, "last")
    engine.pass_time(31 * DAY)
    at.worker.say(at.held, "done")
    assert purge(engine) == 0
    engine.pass_time(31 * DAY)
    assert purge(engine) == 1


def test_retention_goes_in_batches_around_the_living(engine: Engine) -> None:
    sagas = [engine.start() for _ in range(23)]
    for saga in sagas[::2]:
        engine.abort(saga)
    engine.pass_time(31 * DAY)
    assert purge(engine, limit=5) == 12
    assert {row.id for row in engine.rows("select id from instance")} == set(sagas[1::2])


def test_retention_skips_what_others_have_locked(engine: Engine) -> None:
    one, other = engine.start(), engine.start()
    engine.abort(one)
    engine.abort(other)
    engine.pass_time(31 * DAY)
    with engine.schema.connect(autocommit=False) as busy:
        busy.execute("select 1 from instance where id = %s for update", (one,))
        assert purge(engine) == 1
    assert purge(engine) == 1

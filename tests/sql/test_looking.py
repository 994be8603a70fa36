"""What people read: who holds what, how well and how fast it goes, what is wrong and what to do."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from tests.conftest import ServerFactory
from tests.fixtures import fresh_schema
from tests.sql.conftest import running_engine
from tests.sql.engine import Engine, Rows
from tests.sql.lined import both_suspended, branched
from tests.sql.positions import reach, suspend

HOUR = timedelta(hours=1)


def view(engine: Engine, name: str, **where: Any) -> Rows:
    rows = engine.rows(sql.SQL("select * from {}").format(sql.Identifier(name)))
    return [r for r in rows if all(getattr(r, k) == v for k, v in where.items())]


def findings(engine: Engine) -> dict[str, tuple[str, str | None]]:
    """What is wrong: how bad, and about what. That vacuum is held back by whoever else uses this
    server is not this test's concern."""
    found = {row.finding: (row.severity, row.subject) for row in view(engine, "health")}
    found.pop("vacuum is held back", None)
    return found


def test_a_story_is_told_by_id_or_key(engine: Engine) -> None:
    at = reach(engine, "before the pivot")
    key = engine.value("select key from instance where id = %s", at.saga)
    story = engine.rows("select * from timeline(%s)", str(at.saga))
    assert story == engine.rows("select * from timeline(%s)", key)
    whole = engine.rows(
        "select seq, what from timeline where saga_id = %s order by seq, at", at.saga
    )
    assert [(row.seq, row.what) for row in story] == [(row.seq, row.what) for row in whole]
    assert len(story) > 1


def test_a_story_of_nobody_or_of_several_is_refused(engine: Engine) -> None:
    for given in ("nobody", "00000000-0000-7000-8000-000000000000"):
        with pytest.raises(psycopg.Error, match=f'no saga has the id or key "{given}"') as caught:
            engine.rows("select * from timeline(%s)", given)
        assert caught.value.sqlstate == "SG004"
    for type_ in ("order", "single"):
        engine.start(type_, key="twice")
    with pytest.raises(psycopg.Error, match="several sagas have the key") as caught:
        engine.rows("select * from timeline(%s)", "twice")
    assert caught.value.sqlstate == "SG002"


def test_running_tells_who_holds_what_since_when(engine: Engine) -> None:
    before = engine.now()
    at = reach(engine, "before the pivot")
    engine.start()
    (row,) = view(engine, "running")
    assert (row.saga_id, row.step, row.kind, row.attempt) == (at.saga, "charge", "action", 1)
    assert (row.worker, row.host, row.pid, row.line) == (at.worker.id, "host", 1, None)
    assert before < row.since < engine.now(), "since the transition that gave it the command"
    assert row.since == engine.last(at.saga).at
    assert row.until == row.since + timedelta(seconds=35), "the hold and the step's timeout"
    engine.pass_time(7)
    assert view(engine, "running")[0].running_for > timedelta(seconds=7)
    assert view(engine, "running")[0].heartbeat_age > timedelta(seconds=7)


def test_running_shows_a_claim_and_each_line(engine: Engine) -> None:
    saga, worker = branched(engine)
    before = engine.now()
    worker.claim()
    rows = view(engine, "running", saga_id=saga)
    assert sorted(row.step for row in rows) == ["left", "right"]
    assert all(before < row.since <= engine.now() and row.line for row in rows)


def test_workers_are_alive_draining_or_dead(engine: Engine) -> None:
    at = reach(engine, "first")
    draining = engine.worker("order", "entry", lease=HOUR)
    engine.execute("update worker set draining = true where id = %s", draining.id)
    rows = {row.worker: row for row in view(engine, "workers")}
    assert rows[at.worker.id].standing == "alive"
    assert (rows[at.worker.id].in_hand, rows[at.worker.id].runs) == (1, ["order v1"])
    assert (rows[draining.id].standing, rows[draining.id].in_hand) == ("draining", 0)
    assert rows[draining.id].runs == ["entry v1", "order v1"]
    engine.pass_time(60)
    rows = {row.worker: row for row in view(engine, "workers")}
    assert rows[at.worker.id].standing == "dead"
    assert rows[at.worker.id].heartbeat_age > timedelta(seconds=60)


def test_counts_and_queues_are_of_what_lives(engine: Engine) -> None:
    reach(engine, "first")
    suspend(engine)
    both_suspended(engine)
    engine.abort(engine.start())
    engine.start(due_at=engine.now() + HOUR)
    engine.start()
    engine.pass_time(5)
    counts = {(row.type, row.status): row.sagas for row in view(engine, "counts")}
    assert counts == {
        ("order", "EXECUTING"): 1,
        ("order", "SUSPENDED"): 1,
        ("order", "CREATED"): 2,
        ("lined", "SUSPENDED"): 1,
    }
    assert counts == {
        (row.type, row.status): row.n
        for row in engine.rows(
            "select type, status, count(*) as n from overview where ended_at is null group by 1, 2"
        )
    }
    queues = {row.type: row for row in view(engine, "queues")}
    order = queues["order"]
    assert (order.due, order.claimed, order.delayed, order.suspended) == (1, 1, 1, 1)
    assert timedelta(seconds=5) < order.lag < timedelta(minutes=1)
    assert (queues["lined"].suspended, queues["lined"].due, queues["lined"].lag) == (2, 0, None)


def test_failed_sagas_are_listed_with_where_and_why(engine: Engine) -> None:
    compensated = reach(engine, "compensation")
    compensated.worker.say(compensated.worker.say(compensated.held, "done"), "done")
    at_once = reach(engine, "first")
    at_once.worker.say(at_once.held, "rejected")
    cancelled = engine.start()
    engine.act("cancel", cancelled, "changed their mind")
    resolved = suspend(engine)
    engine.resolve(resolved.saga, "FAILED")
    rows = {row.saga_id: row for row in engine.rows("select * from failure")}
    assert {saga: (row.step, row.error, row.state) for saga, row in rows.items()} == {
        compensated.saga: ("book", "Boom", "FAILED"),
        at_once.saga: ("reserve", "Boom", "FAILED"),
        cancelled: ("reserve", "Cancelled", "CANCELLED"),
        resolved.saga: ("mail", "Resolved", "FAILED"),
    }
    assert all(row.ended_at == engine.instance(saga).ended_at for saga, row in rows.items())
    engine.pass_time(timedelta(days=31))
    engine.value("select removed from purge()")
    assert engine.rows("select * from failure") == []


def test_rates_and_latencies_are_of_what_happened(engine: Engine) -> None:
    done = reach(engine, "last")
    done.worker.say(done.held, "done", took=0.5)
    failed = reach(engine, "first")
    failed.worker.say(failed.held, "rejected", took=0.25)
    again = reach(engine, "first")
    again.worker.say(again.held, "retry", after="0 seconds", took=1.0)
    again.worker.say(again.worker.claim_one(), "done", took=3.0)
    suspend(engine)
    (rate,) = view(engine, "completion_rate")
    assert (rate.type, rate.started, rate.completed, rate.failed) == ("order", 4, 1, 1)
    assert (rate.suspended, rate.live) == (1, 2)
    assert float(rate.rate) == pytest.approx(1 / 3, abs=1e-5)
    steps = {(row.step, row.kind): row for row in view(engine, "latency")}
    reserve = steps["reserve", "action"]
    assert (reserve.type, reserve.count, reserve.errors, reserve.retries) == ("order", 5, 2, 1)
    assert reserve.p99 == pytest.approx(3.0, abs=0.1)
    assert steps["archive", "action"].p50 == pytest.approx(0.5)
    (group,) = [r for r in view(engine, "errors") if r.step == "reserve"]
    assert (group.error, group.message, group.count, group.sagas) == ("Boom", "it broke", 2, 2)
    assert group.first_seen < group.last_seen
    assert group.example == again.saga
    ended = engine.rows("select * from ended_since('1 hour')")
    assert {(row.status, row.sagas) for row in ended} == {("COMPLETED", 1), ("FAILED", 1)}
    (flow,) = engine.rows("select * from throughput_since('1 minute')")
    assert (flow.started, flow.completed, flow.failed, flow.retries) == (4, 1, 1, 1)
    over = engine.rows("select * from latency_over('1 hour', '1 day', 'order')")
    assert sum(row.attempts for row in over) == sum(row.count for row in steps.values())
    engine.pass_time(2 * HOUR)
    assert view(engine, "latency") == [], "of the last hour"
    assert engine.rows("select * from latency_since('3 hours', 'entry')") == []


def test_lines_tell_what_a_saga_is_at(engine: Engine) -> None:
    saga, worker = branched(engine)
    left, right = sorted(worker.claim(), key=lambda held: held.step)
    worker.say(left, "rejected")
    main, one, other = engine.rows("select * from lines_of(%s)", saga)
    assert (main.line, main.standing, main.step) == (None, "joins", "both")
    assert {one.standing, other.standing} == {"suspended", "running"}
    suspended = one if one.standing == "suspended" else other
    assert (suspended.error["type"], suspended.step) == ("Boom", "left")
    assert suspended.reason
    assert engine.rows("select * from lines_of(%s)", UUID(int=0)) == []
    worker.release(right)


def test_family_signals_and_acts_have_views(engine: Engine) -> None:
    at = suspend(engine)
    engine.retry(at.saga, "the printer has paper")
    (act,) = view(engine, "acts", saga_id=at.saga)
    assert (act.act, act.note, act.step) == ("retry", "the printer has paper", "mail")
    engine.abort(at.saga, "no")
    gone = engine.start()
    engine.abort(gone)
    new = engine.act("rerun", gone, "once more")
    (relative,) = view(engine, "relatives", saga_id=gone)
    assert (relative.relation, relative.other, relative.note) == ("rerun as", new, "once more")
    (back,) = view(engine, "relatives", saga_id=new)
    assert (back.relation, back.other) == ("rerun of", gone)
    assert {row.type for row in view(engine, "definitions")} == {"order", "entry", "single"}


def test_health_is_empty_when_all_is_well(engine: Engine) -> None:
    engine.worker(lease=timedelta(days=1))
    assert findings(engine) == {}
    engine.start()
    assert findings(engine) == {}


def test_health_names_what_is_wrong_with_commands(engine: Engine) -> None:
    engine.start()
    assert findings(engine) == {"no worker": ("error", None)}
    engine.worker("entry", lease=timedelta(days=1))
    assert findings(engine) == {"nobody runs this version": ("error", "order version 1")}
    engine.worker("order", lease=timedelta(days=1))
    engine.pass_time(60)
    assert findings(engine) == {"lag": ("warning", "order version 1")}
    engine.value("select pause('the provider is down')")
    assert findings(engine) == {"paused": ("info", "everything")}
    engine.value("select resume('it is back')")
    engine.pass_time(600)
    assert findings(engine) == {"lag": ("error", "order version 1"), "stuck": ("error", "order")}
    lost = engine.worker("entry")
    engine.pass_time(60)
    assert findings(engine)["dead worker"] == ("warning", "host pid 1")
    lost.deregister()
    suspend(engine)
    assert findings(engine)["suspended"] == ("warning", "order")
    engine.execute(
        "select set_schedule('nightly', 'order', '0 3 * * *', 'UTC', '{}'); "
        "update schedule set next_tick = clock() - interval '5 minutes'"
    )
    assert findings(engine)["schedule overdue"] == ("warning", "nightly")
    assert all(row.remedy and row.detail for row in view(engine, "health"))


def test_health_names_what_is_wrong_with_events(engine: Engine) -> None:
    engine.worker(lease=timedelta(days=1))
    at = suspend(engine)
    engine.resolve(at.saga, "COMPLETED")
    at.worker.deregister()
    engine.execute("select subscribe('shop', '{*}', 'https://shop.example/hooks')")
    engine.execute(
        "insert into event (saga_id, seq, type, version, step, name, payload, at) "
        "values (%s, 1, 'order', 1, 'mail', 'order.sent', '1', clock())",
        at.saga,
    )
    engine.pass_time(120)
    assert findings(engine) == {"events wait": ("warning", None)}
    engine.execute("select route_events()")
    engine.execute("update delivery set status = 'dead', error = 'HTTP 500', at = clock()")
    engine.execute("update subscription set disabled_at = clock(), disabled_why = 'gone'")
    engine.execute(
        "insert into pgqueuer (priority, status, entrypoint, execute_after) "
        "values (0, 'queued', 'shop', clock() - interval '10 minutes')"
    )
    assert findings(engine) == {
        "dead letters": ("error", "shop"),
        "subscription disabled": ("error", "shop"),
        "jobs wait": ("warning", "shop"),
    }
    (letter,) = view(engine, "health", finding="dead letters")
    assert "HTTP 500" in letter.detail
    (delivery,) = view(engine, "deliveries", saga_id=at.saga)
    assert (delivery.status, delivery.error) == ("dead", "HTTP 500")


@pytest.fixture
def own_server(server_factory: ServerFactory) -> Iterator[Engine]:
    """A schema on a server that nobody else uses, where transactions can be prepared."""
    server = server_factory(settings={"max_prepared_transactions": "5", "wal_level": "logical"})
    with fresh_schema(server.dsn) as schema, running_engine(schema) as made:
        yield made


def test_health_names_who_holds_vacuum_back(own_server: Engine) -> None:
    engine = own_server
    engine.worker(lease=timedelta(days=1))
    assert engine.rows("select * from vacuum_holders()") == []
    # Before the others: to make one waits for their ends.
    engine.value("select 1 from pg_create_logical_replication_slot('unread', 'test_decoding')")
    with engine.schema.connect(autocommit=False, application_name="report") as session:
        session.execute("select count(*) from instance")
        session.execute("declare slow cursor for select * from definition")
        pid = session.info.backend_pid
        with engine.schema.connect() as other:
            other.execute("begin")
            other.execute("select pg_current_xact_id()")
            other.execute("prepare transaction 'forgotten'")
        engine.execute(
            "do $$ begin for n in 1..500 loop begin perform pg_current_xact_id(); "
            "insert into act (saga_id, seq, act, actor, note, at) values "
            "(gen_random_uuid(), n, 'retry', 'x', 'x', now()); raise exception 'back'; "
            "exception when others then null; end; end loop; end $$"
        )
        engine.pass_time(300)
        held = {
            (row.kind, row.name): row
            for row in engine.rows("select * from vacuum_holders('1 minute', 100)")
        }
        assert held.keys() == {
            ("session", f"pid {pid}"),
            ("prepared transaction", "forgotten"),
            ("replication slot", "unread"),
        }
        mine = held["session", f"pid {pid}"]
        assert mine.age > timedelta(minutes=4)
        assert mine.detail.startswith("report of user")
        assert f"pg_terminate_backend({pid})" in mine.remedy
        assert held["prepared transaction", "forgotten"].remedy.startswith("commit prepared")
        assert "pg_drop_replication_slot('unread')" in held["replication slot", "unread"].remedy
        named = {row.subject: row.severity for row in view(engine, "health")}
        assert named == {
            f"session pid {pid}": "warning",
            "prepared transaction forgotten": "warning",
        }
        engine.pass_time(900)
        assert {row.severity for row in view(engine, "health")} == {"error"}
    engine.execute("rollback prepared 'forgotten'")
    engine.value("select pg_drop_replication_slot('unread')")
    assert engine.rows("select * from vacuum_holders()") == []


def test_health_names_tables_full_of_dead_rows(own_server: Engine) -> None:
    engine = own_server
    engine.worker(lease=timedelta(days=1))
    engine.execute("alter table ticket set (autovacuum_enabled = off)")
    engine.execute(
        "insert into ticket (saga_id, type, version, state, fresh, rank) "
        "select gen_random_uuid(), 'order', 1, 'running', true, now() "
        "from generate_series(1, 60000)"
    )
    engine.execute("delete from ticket")
    engine.execute("select pg_stat_force_next_flush()")
    (row,) = view(engine, "health", finding="dead rows")
    assert (row.severity, row.subject) == ("warning", "ticket")
    assert "60000 dead rows beside 0 live ones" in row.detail
    assert "vacuum" in row.remedy


def test_the_comment_of_each_view_and_function_says_what_it_is(engine: Engine) -> None:
    bare = engine.rows(
        "select c.relname from pg_class c where c.relnamespace = current_schema()::regnamespace "
        "and c.relkind = 'v' and obj_description(c.oid, 'pg_class') is null"
    )
    assert bare == []


@pytest.mark.parametrize(
    "name", ["find_sagas", "latency_since", "completion_rate_since", "errors_since", "lines_of"]
)
def test_functions_that_people_call_have_a_comment(engine: Engine, name: str) -> None:
    assert engine.value("select obj_description(%s::regproc, 'pg_proc')", name)

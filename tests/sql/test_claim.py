"""Who gets which command, and what that costs."""

import math
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest

from outbox import Saga
from outbox.store.functions import Claimed
from tests.sql.engine import Engine, report
from tests.sql.positions import reach
from tests.sql.sagas import Order, act, make_order


def test_the_oldest_due_come_first_up_to_the_limit_of_each_type(engine: Engine) -> None:
    now = engine.now()
    later = [engine.start(due_at=now + timedelta(seconds=n)) for n in (3, 1, 2)]
    single = [engine.start("single", due_at=now + timedelta(seconds=n)) for n in (7, 5, 6)]
    engine.pass_time(10)
    worker = engine.worker("order", "single")
    assert [c.command for c in worker.claim(2)] == [later[1], later[2], single[1], single[2]]
    assert [c.command for c in worker.claim(2)] == [later[0], single[0]]
    assert worker.claim(2) == []
    assert worker.held() == {*later, *single}


def test_a_limit_of_one_type_is_not_used_up_by_another(engine: Engine) -> None:
    for _ in range(5):
        engine.start()
        engine.start("single")
    worker = engine.worker("order", "single")
    found = engine.connection.execute(
        "select type, count(*) from claim(%s, '{order,single}', '{1,1}', '{1,4}') group by 1",
        (worker.id,),
    ).fetchall()
    assert Counter(dict(found)) == {"order": 1, "single": 4}


def test_a_claim_says_all_that_a_worker_needs(engine: Engine) -> None:
    saga = engine.start(key="k", number=4)
    first = engine.worker()
    second = first.say(first.claim_one(), "done", result='{"id": 1}')
    first.say(first.say(second, "done"), "in_doubt", after=timedelta(), doubt_for=timedelta(1))
    before = engine.row(saga)
    other = engine.worker(lease=timedelta(hours=1))
    claimed = other.claim_one()
    assert claimed == Claimed(
        command=saga,
        fence=before.fence + 1,
        seq=3,
        type="order",
        version=1,
        key="k",
        kind="action",
        step="charge",
        ordinal=3,
        attempt=2,
        revision=0,
        in_doubt=True,
        input={"number": 4},
        results={"reserve": {"id": 1}, "inspect": None},
        error={"type": "Boom", "message": "it broke"},
        due_at=before.due_at,
        root=None,
        element=None,
        awaits=None,
        arrived=None,
    )
    row, now = engine.row(saga), engine.now()
    assert row.worker == other.id
    assert timedelta(seconds=34) < row.deadline - now <= timedelta(seconds=35), "hold + timeout"
    assert (row.seq, row.moved_at) == (before.seq, before.moved_at), "a claim is no transition"


def test_what_is_claimed_has_the_time_that_its_own_handler_declares(engine: Engine) -> None:
    """The deadline in the row is that of the compensation or the reconcile, not of the action."""
    asked = Saga("asked", input=Order)
    pay = asked.step(name="pay", timeout=5)(act)
    pay.compensation(timeout=7)(act)
    pay.reconcile(timeout=9)(act)
    engine.register(asked)
    saga, worker = engine.start("asked"), engine.worker("asked")

    def seconds_left() -> int:
        return math.ceil((engine.row(saga).deadline - engine.now()).total_seconds())

    hold, held = 30, worker.claim_one()
    assert (held.kind, seconds_left()) == ("action", hold + 5)
    worker.say(held, "in_doubt")
    engine.pass_time(3)
    held = worker.claim_one()
    assert (held.kind, seconds_left()) == ("reconcile", hold + 9)
    engine.abort(saga)
    worker.release(worker.say(held, "done"))
    held = worker.claim_one()
    assert (held.kind, seconds_left()) == ("compensation", hold + 7)


def test_a_floor_hides_what_was_due_before_it_from_one_claim_only(engine: Engine) -> None:
    early = engine.start()
    engine.pass_time(1)
    late = engine.start()
    worker, floor = engine.worker(), engine.row(late).due_at
    claim = "select command from claim(%s, '{order}', '{1}', '{9}', %s)"
    assert [row.command for row in engine.rows(claim, worker.id, [floor])] == [late]
    assert [row.command for row in engine.rows(claim, worker.id, [None])] == [early]


def test_what_is_locked_elsewhere_is_skipped(engine: Engine) -> None:
    locked, free = engine.start(), engine.start()
    with engine.schema.connect(autocommit=False) as other:
        other.execute("select 1 from outbox where id = %s for no key update", (locked,))
        assert [c.command for c in engine.worker().claim(1)] == [free]
    assert [c.command for c in engine.worker().claim(1)] == [locked]


def test_nobody_else_gets_what_is_delayed_suspended_held_or_of_another_version(
    engine: Engine,
) -> None:
    suspended = reach(engine, "after the pivot")
    suspended.worker.say(suspended.held, "rejected")
    reach(engine, "first")
    engine.start(due_at=engine.now() + timedelta(hours=1))
    engine.register(make_order(version=2))
    newer = engine.start(version=2)
    engine.start("single")
    assert engine.worker().claim() == []
    assert [c.command for c in engine.worker(version=2).claim()] == [newer]


def test_a_worker_that_is_not_registered_may_not_claim(engine: Engine) -> None:
    engine.start()
    worker = engine.worker()
    worker.deregister()
    before = engine.everything()
    with pytest.raises(psycopg.Error, match="is not registered") as caught:
        worker.claim()
    assert caught.value.sqlstate == "SG007"
    assert engine.everything() == before


def test_of_many_claimers_no_two_get_the_same_command(engine: Engine) -> None:
    sagas = {engine.start() for _ in range(200)}
    workers = [engine.worker() for _ in range(4)]

    def claim_all(number: int) -> list[UUID]:
        found = []
        with engine.schema.connect() as connection:
            while claimed := workers[number].claim(7, connection):
                found += [c.command for c in claimed]
        return found

    with ThreadPoolExecutor(4) as executor:
        claimed = [command for found in executor.map(claim_all, range(4)) for command in found]
    # A row that another one locked is skipped, and found by its next claim.
    assert Counter(claimed) == Counter(sagas)


def test_another_types_backlog_costs_a_claim_nothing(engine: Engine) -> None:
    engine.execute(
        "select start_many('single', array_fill('{}'::jsonb, array[20000]), null, null, null)"
    )
    engine.execute("analyze outbox")
    sagas = [engine.start() for _ in range(3)]
    worker = engine.worker()
    with engine.connection.transaction():
        before = engine.rows(READ_SO_FAR)[0]
        assert {c.command for c in worker.claim()} == set(sagas)
        after = engine.rows(READ_SO_FAR)[0]
    assert after.scans - before.scans == 1, "one scan of outbox_due for one type"
    assert after.entries - before.entries <= 10, "it reads that type's entries only"
    assert after.one_by_one == before.one_by_one, "no scan of the table"


READ_SO_FAR = """
select pg_stat_get_xact_numscans('outbox_due'::regclass) as scans,
    pg_stat_get_xact_tuples_returned('outbox_due'::regclass) as entries,
    pg_stat_get_xact_tuples_returned('outbox'::regclass) as one_by_one
"""


def test_a_step_touches_no_index_of_the_outbox_and_nothing_of_the_instance(
    engine: Engine,
) -> None:
    # So few that one page holds all their versions, whether or not it can be pruned meanwhile.
    for _ in range(4):
        engine.start()
    worker = engine.worker()
    reports = [report(held, "done") for held in worker.claim(4)]
    before = updates(engine)
    for _ in range(3):
        reports = [report(held, "done") for held in worker.advance(*reports)]
    after = updates(engine)
    assert [now - then for now, then in zip(after, before, strict=True)] == [12, 12, 0]


def updates(engine: Engine) -> list[int]:
    """Rows of outbox updated so far, those of them heap-only, and rows of instance updated."""
    engine.execute("select pg_stat_force_next_flush()")
    engine.execute("select pg_stat_clear_snapshot()")
    (row,) = engine.connection.execute(
        "select pg_stat_get_tuples_updated('outbox'::regclass), "
        "pg_stat_get_tuples_hot_updated('outbox'::regclass), "
        "pg_stat_get_tuples_updated('instance'::regclass)"
    ).fetchall()
    return list(row)


def test_a_worker_of_no_type_claims_nothing(engine: Engine) -> None:
    engine.start()
    worker = engine.worker("nothing")
    assert worker.claim() == []
    stranger = uuid.uuid4()
    assert engine.rows("select * from heartbeat(%s)", stranger) == []

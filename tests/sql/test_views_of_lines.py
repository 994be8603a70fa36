"""What people read of sagas that have lines side by side, or wait."""

import json
from datetime import timedelta
from uuid import UUID

from psycopg import sql

from outbox import Saga
from tests.sql.engine import Engine, Rows
from tests.sql.lined import both_suspended, branched
from tests.sql.sagas import ORDER, Order, act

HOUR = timedelta(hours=1)


def view(engine: Engine, name: str) -> Rows:
    return engine.rows(sql.SQL("select * from {}").format(sql.Identifier(name)))


def standing(engine: Engine, saga: UUID) -> tuple[str, str]:
    (row,) = engine.rows("select * from overview where saga_id = %s", saga)
    return row.status, row.step


def test_a_saga_is_suspended_once_nothing_of_it_runs_that_could_go_on(engine: Engine) -> None:
    saga, worker = branched(engine)
    assert standing(engine, saga) == ("EXECUTING", "both")
    left, right = sorted(worker.claim(), key=lambda held: held.step)
    worker.say(left, "rejected")
    assert standing(engine, saga) == ("EXECUTING", "both"), "the other one runs"
    (row,) = view(engine, "manual_intervention")
    assert (row.saga_id, row.line, row.step, row.seq) == (saga, left.command, "left", 3)
    assert (row.error["type"], row.attempts, row.state) == ("Boom", 1, "FIRST_DONE")
    assert (row.since, row.episode) == (engine.last(saga).at, 3)
    worker.say(right, "done")
    assert standing(engine, saga) == ("SUSPENDED", "left")
    assert engine.retry(saga) == "EXECUTING"
    assert standing(engine, saga) == ("EXECUTING", "both")


def test_each_suspended_line_is_an_alert_of_its_own_that_outlives_the_others(
    engine: Engine,
) -> None:
    saga, worker = both_suspended(engine)

    def alerts() -> list[str]:
        return [row.step for row in engine.rows("select * from raise_alerts()")]

    def still_open() -> int:
        return int(engine.value("select count(*) from alert where resolved_at is null"))

    assert sorted(alerts()) == ["left", "right"]
    assert (alerts(), still_open()) == ([], 2)
    engine.act("skip", saga, "by hand", p_step="right")
    assert (alerts(), still_open()) == ([], 1), "the saga moved on, the other line did not"
    engine.act("retry", saga, "again")
    assert (alerts(), still_open()) == ([], 0)
    worker.say(worker.claim_one(), "rejected")
    assert (alerts(), still_open()) == (["left"], 1)


def test_lines_are_pending_and_stuck_under_their_saga(engine: Engine) -> None:
    saga, worker = branched(engine)
    rows = view(engine, "pending")
    assert {(row.saga_id, row.step, row.standing) for row in rows} == {
        (saga, "left", "due"),
        (saga, "right", "due"),
    }
    assert all(row.line is not None for row in rows)
    left = worker.claim_one()
    engine.pass_time(7200)
    stuck = view(engine, "stuck")
    assert {(row.saga_id, row.step, row.seq) for row in stuck} == {
        (saga, "left", 2),
        (saga, "right", 2),
    }
    assert {row.step: row.why.split()[0] for row in stuck}[left.step] == "held"


def test_waiting_says_what_waits_for_what_since_when_and_until_when(engine: Engine) -> None:
    outer = Saga("outer", input=Order)
    with outer.parallel("both") as group:
        outer.run("inner", ORDER, input=lambda cmd: cmd.input)
        with group.branch():
            outer.wait_for("approved", timeout=HOUR)
    engine.register(outer)
    saga, worker = engine.start("outer"), engine.worker("outer")
    worker.say(worker.claim_one(), "branched")
    for held in worker.claim():
        plan = (
            {"await": "saga", "type": "order", "key": "inside", "input": {}}
            if held.step == "inner"
            else {"await": "signal", "seconds": 3600}
        )
        worker.say(held, "waiting", result=json.dumps(plan))
    child = engine.value("select id from instance where key = 'inside'")
    rows = {row.awaits: row for row in view(engine, "waiting")}
    assert {row.saga_id for row in rows.values()} == {saga}
    assert rows["lines"].what == "2 lines"
    assert rows["saga"].sub_saga == child
    assert rows["saga"].what == f"saga {child} (order inside, living)"
    assert (rows["signal"].what, rows["signal"].step) == ('signal "approved"', "approved")
    assert rows["signal"].until - rows["signal"].since == HOUR
    assert (rows["lines"].until, rows["saga"].until) == (None, None)
    assert standing(engine, saga) == ("EXECUTING", "both")
    assert len(view(engine, "overview")) == 2


def test_the_timeline_names_elements_and_lines(engine: Engine) -> None:
    each = Saga("each", input=Order)
    each.step(name="pack", each=lambda cmd: [1, 2], nothing_to_undo="it reads")(act_on)
    engine.register(each)
    saga, worker = engine.start("each"), engine.worker("each")
    worker.say(worker.claim_one(), "branched", result="[1, 2]")
    for held in worker.claim():
        worker.say(held, "done", result="0")
    rows = engine.rows("select * from timeline where saga_id = %s order by seq", saga)
    assert rows[1].what == "pack: waiting"
    assert {(row.what, row.element) for row in rows[2:4]} == {
        ("pack/0: done", 0),
        ("pack/1: done", 1),
    }
    assert rows[4].what == "pack: joined, now COMPLETED"
    assert [row.line is None for row in rows[1:]] == [True, False, False, True]


async def act_on(cmd: object, item: int) -> int:
    await act(cmd)  # type: ignore[arg-type]
    return item

"""What the SQL keeps of events and of sub-effects: whatever dies, whoever comes too late."""

import json
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from outbox.store.functions import Claimed
from tests.sql.engine import BOTH_WAYS, Engine, Worker
from tests.waiting import wait_until

pytestmark = BOTH_WAYS

LEEWAY = "5 seconds"


def tell(worker: Worker, held: Any, outcome: str, *names: str, fence: int | None = None) -> str:
    """Commits an outcome with events; the verdict."""
    events = json.dumps([{"name": name, "payload": {"n": n}} for n, name in enumerate(names)])
    row = worker.engine.connection.execute(
        "select verdict from advance(%s, %s, %s::int[], %s, array[null]::json[], "
        "array[0.1]::real[], %s::text[]::jsonb[], p_events => %s::text[]::json[])",
        (
            worker.id, [held.command], [held.fence if fence is None else fence], [outcome],
            [None if outcome == "done" else '{"type": "Boom"}'], [events],
        ),
    ).fetchone()  # fmt: skip
    assert row is not None
    return str(row[0])


def names(engine: Engine) -> list[str]:
    return [row.name for row in engine.rows("select name from events order by number")]


def test_events_are_stored_in_their_order_with_the_transition(engine: Engine) -> None:
    saga = engine.start(key="k")
    worker = engine.worker()
    held = worker.claim_one()
    assert tell(worker, held, "done", "b.first", "a.second") == "applied"
    first, second = engine.rows("select * from events order by number")
    assert (first.name, second.name) == ("b.first", "a.second")
    assert (first.saga_id, first.type, first.key, first.step, first.seq, first.payload) == (
        saga, "order", "k", "reserve", 1, {"n": 0},
    )  # fmt: skip
    assert first.at == engine.last(saga).at


def test_a_replayed_outcome_stores_nothing_twice(engine: Engine) -> None:
    engine.start()
    worker = engine.worker()
    held = worker.claim_one()
    assert tell(worker, held, "done", "a.b") == "applied"
    assert tell(worker, held, "done", "a.b") == "replayed"
    assert names(engine) == ["a.b"]


@pytest.mark.parametrize("outcome", ["retry", "rejected", "in_doubt"])
def test_an_attempt_that_is_not_done_tells_nothing(engine: Engine, outcome: str) -> None:
    engine.start()
    worker = engine.worker()
    assert tell(worker, worker.claim_one(), outcome, "a.b") == "applied"
    assert names(engine) == []


def test_a_zombie_tells_nothing(engine: Engine) -> None:
    engine.start()
    worker, other = engine.worker(lease=timedelta(seconds=1)), engine.worker()
    held = worker.claim_one()
    engine.pass_time(2)
    assert len(engine.reap()) == 1
    again = other.claim_one()
    assert tell(worker, held, "done", "of.a.zombie") == "fenced"
    assert tell(other, again, "done", "of.the.living") == "applied"
    assert names(engine) == ["of.the.living"]


def test_an_aborted_step_tells_of_itself_and_so_does_its_compensation(engine: Engine) -> None:
    saga = engine.start()
    worker = engine.worker()
    held = worker.claim_one()
    engine.abort(saga)
    assert tell(worker, held, "done", "reserved") == "applied"
    (undo,) = worker.claim(1) or [engine.row(saga)]
    if not isinstance(undo, Claimed):
        undo.command = undo.id
    assert tell(worker, undo, "done", "released") == "applied"
    assert names(engine) == ["reserved", "released"]
    assert engine.instance(saga).status == "FAILED"


def test_the_end_of_a_saga_may_tell(engine: Engine) -> None:
    engine.start("single")
    worker = engine.worker("single")
    assert tell(worker, worker.claim_one(), "done", "single.over") == "applied"
    assert names(engine) == ["single.over"]


def remember(engine: Engine, worker: Worker, held: Any, result: Any, name: str = "a") -> Any:
    return engine.value(
        "select remember(%s, %s, %s, %s, %s::json)",
        *(worker.id, held.command, held.fence, name, json.dumps(result)),
    )


def recalled(engine: Engine, worker: Worker, held: Any, name: str = "a") -> list[Any]:
    return [
        row.result
        for row in engine.rows(
            "select * from recalled(%s, %s, %s, %s)", worker.id, held.command, held.fence, name
        )
    ]


def test_what_was_remembered_first_stays(engine: Engine) -> None:
    engine.start()
    worker = engine.worker()
    held = worker.claim_one()
    assert recalled(engine, worker, held) == []
    assert remember(engine, worker, held, {"n": 1}) == {"n": 1}
    assert remember(engine, worker, held, {"n": 2}) == {"n": 1}
    assert recalled(engine, worker, held) == [{"n": 1}]
    answer = worker.say(held, "retry", no_effect=True)
    assert answer.fence is None
    engine.pass_time(100)
    assert recalled(engine, worker, worker.claim_one()) == [{"n": 1}]


def test_the_next_command_remembers_nothing_of_it(engine: Engine) -> None:
    engine.start()
    worker = engine.worker()
    held = worker.claim_one()
    remember(engine, worker, held, None)
    assert recalled(engine, worker, held) == [None]
    assert recalled(engine, worker, worker.say(held, "done")) == []


def test_a_zombie_cannot_remember(engine: Engine) -> None:
    engine.start()
    worker, other = engine.worker(lease=timedelta(seconds=1)), engine.worker()
    held = worker.claim_one()
    engine.pass_time(2)
    engine.reap()
    again = other.claim_one()
    for call in (remember, recalled):
        arguments: tuple[Any, ...] = ({"n": 1},) if call is remember else ()
        with pytest.raises(psycopg.Error, match="no longer this worker's") as caught:
            call(engine, worker, held, *arguments)
        assert caught.value.sqlstate == "SG007"
    assert remember(engine, other, again, {"n": 2}) == {"n": 2}


def test_remembering_waits_for_nobody_who_moves_the_saga(engine: Engine) -> None:
    saga = engine.start()
    worker = engine.worker()
    held = worker.claim_one()
    with engine.schema.connect(autocommit=False) as other:
        other.execute("select 1 from outbox where id = %s for no key update", (saga,))
        engine.execute("set lock_timeout = '2s'")
        assert remember(engine, worker, held, 1) == 1
        other.rollback()
    with engine.schema.connect(autocommit=False) as other:
        other.execute(
            "select remember(%s, %s, %s, 'b', '1')", (worker.id, held.command, held.fence)
        )
        assert worker.say(held, "done").verdict == "applied"
        other.commit()
    assert engine.value("select count(*) from once_result") == 2


def test_two_that_remember_at_once_agree(engine: Engine) -> None:
    engine.start()
    worker = engine.worker()
    held = worker.claim_one()
    call = "select remember(%s, %s, %s, 'a', %s::json)"
    with engine.schema.connect(autocommit=False) as first, engine.schema.connect() as second:
        first.execute(call, (worker.id, held.command, held.fence, "1"))
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(
                lambda: second.execute(call, (worker.id, held.command, held.fence, "2")).fetchone()
            )
            wait_until(lambda: engine.is_waiting(second))
            first.commit()
            assert waiting.result(20) == (1,)


@pytest.fixture
def emitted(engine: Engine) -> Callable[..., UUID]:
    """Lets a saga emit, one event a step, to the subscription "all"."""
    engine.execute(
        "select register_subscriber('all', '{*}', '10 seconds', 3, '1 second', '1 second')"
    )

    def emit(*told: str) -> UUID:
        saga = engine.start()
        worker = engine.worker()
        held: Any = worker.claim_one()
        for name in told:
            assert tell(worker, held, "done", name) == "applied"
            row = engine.row(saga)
            row.command = row.id
            held = row
        return saga

    return emit


def route(engine: Engine, overdue: str | None = None) -> list[UUID]:
    rows = engine.rows("select * from route_events(500, %s)", overdue)
    return [row.saga_id for row in rows]


def take(engine: Engine, saga: UUID) -> Any:
    (row,) = engine.rows("select * from take_delivery('all', %s, %s)", saga, LEEWAY)
    return row


def delivered(engine: Engine, saga: UUID, taken: Any) -> bool:
    return bool(
        engine.value("select delivered('all', %s, %s, %s)", saga, taken.number, taken.fence)
    )


def failed(engine: Engine, saga: UUID, taken: Any) -> str:
    return str(
        engine.value(
            "select not_delivered('all', %s, %s, %s, 'why')", saga, taken.number, taken.fence
        )
    )


def test_who_asks_for_no_pause_is_tried_again_soon(
    engine: Engine, emitted: Callable[..., UUID]
) -> None:
    saga = emitted("a")
    route(engine)
    assert failed(engine, saga, take(engine, saga)) == "retry"
    assert engine.value("select due_at <= clock() + interval '1 second' from lane")


def test_one_event_of_a_saga_is_in_flight_at_a_time(
    engine: Engine, emitted: Callable[..., UUID]
) -> None:
    saga = emitted("a", "b")
    assert route(engine) == [saga]
    assert route(engine) == [], "the lane has its job"
    first = take(engine, saga)
    assert (first.verdict, first.name, first.attempt) == ("taken", "a", 1)
    assert take(engine, saga).verdict == "wait"
    assert delivered(engine, saga, first)
    second = take(engine, saga)
    assert second.name == "b"
    assert delivered(engine, saga, second)
    assert take(engine, saga).verdict == "none"
    assert engine.rows("select * from lane") == []


def test_a_relay_that_died_is_followed_by_another_and_comes_too_late(
    engine: Engine, emitted: Callable[..., UUID]
) -> None:
    saga = emitted("a", "b")
    route(engine)
    dead = take(engine, saga)
    engine.pass_time(16)
    again = take(engine, saga)
    assert (again.verdict, again.name) == ("taken", "a")
    assert not delivered(engine, saga, dead)
    assert failed(engine, saga, dead) == "fenced"
    assert delivered(engine, saga, again)
    assert take(engine, saga).name == "b"


def test_what_comes_while_a_lane_empties_is_not_overlooked(
    engine: Engine, emitted: Callable[..., UUID]
) -> None:
    """Whoever finds a lane empty, and whoever brings it something, agree on who makes a job."""
    saga = emitted("a", "b")
    engine.execute("update event set relayed = true where name = 'b'")
    assert route(engine) == [saga]
    assert delivered(engine, saga, take(engine, saga))
    engine.execute("update event set relayed = false where name = 'b'")
    with engine.schema.connect(autocommit=False) as router, engine.schema.connect() as relay:
        rows = router.execute("select * from route_events()").fetchall()
        assert rows == [], "the lane's job is still there"
        with ThreadPoolExecutor(1) as pool:
            looking = pool.submit(
                lambda: relay.execute(
                    "select verdict, name from take_delivery('all', %s, %s)", (saga, LEEWAY)
                ).fetchone()
            )
            wait_until(lambda: engine.is_waiting(relay))
            router.commit()
            assert looking.result(20) == ("taken", "b")


def test_two_routers_at_once_route_each_event_once(
    engine: Engine, emitted: Callable[..., UUID]
) -> None:
    sagas = {emitted("a", "b", "c") for _ in range(10)}
    ready = threading.Barrier(4)

    def work() -> list[UUID]:
        with engine.schema.connect() as connection:
            ready.wait()
            rows = connection.execute("select saga_id, more from route_events(7)").fetchall()
            found = [saga for saga, more in rows if not more]
            while any(more for _, more in rows):
                rows = connection.execute("select saga_id, more from route_events(7)").fetchall()
                found += [saga for saga, more in rows if not more]
            return found

    with ThreadPoolExecutor(4) as pool:
        made = [
            saga for future in [pool.submit(work) for _ in range(4)] for saga in future.result()
        ]
    assert sorted(made) == sorted(sagas), "one job a lane"
    assert engine.value("select count(*) from delivery") == 30


def test_a_dead_letter_lets_the_next_event_pass(
    engine: Engine, emitted: Callable[..., UUID]
) -> None:
    saga = emitted("a", "b")
    route(engine)
    verdicts = []
    for _ in range(3):
        taken = take(engine, saga)
        verdicts.append(failed(engine, saga, taken))
        assert taken.name == "a"
        engine.pass_time(2)
    assert verdicts == ["retry", "retry", "dead"]
    assert take(engine, saga).name == "b"
    number = engine.value("select number from event where name = 'b'")
    with pytest.raises(psycopg.Error, match="still waits to be delivered") as caught:
        engine.execute("select redeliver('all', %s, 'why')", number)
    assert caught.value.sqlstate == "SG005"
    assert engine.rows("select * from redelivery") == []


def test_a_lane_whose_job_was_lost_gets_another(
    engine: Engine, emitted: Callable[..., UUID]
) -> None:
    saga = emitted("a")
    assert route(engine) == [saga]
    assert route(engine, "1 minute") == []
    engine.pass_time(61)
    assert route(engine, "1 minute") == [saga]
    take(engine, saga)
    assert route(engine, "1 minute") == [], "somebody is at it"


def test_what_a_purged_saga_told_is_removed_with_it(
    engine: Engine, emitted: Callable[..., UUID]
) -> None:
    engine.execute("select register_subscriber('x', '{*}', '1s', 3, '1s', '1s')")
    engine.start("single")
    worker = engine.worker("single")
    held = worker.claim_one()
    remember(engine, worker, held, 1)
    tell(worker, held, "done", "a.b")
    route(engine)
    engine.pass_time(timedelta(days=31))
    assert engine.value("select removed from purge()") == 1
    for table in ("event", "delivery", "lane", "once_result"):
        assert engine.value(f"select count(*) from {table}") == 0  # noqa: S608 - ours


def test_the_patterns_of_a_subscription_are_no_others(engine: Engine) -> None:
    for name, patterns, wanted in (
        ("payment.done", ["payment.*"], True),
        ("payment.done.late", ["payment.*"], True),
        ("payment", ["payment.*"], False),
        ("payments.done", ["payment.*"], False),
        ("a_b.c", ["a_b.*"], True),
        ("axb.c", ["a_b.*"], False),
        ("a.b", ["x", "*.b"], True),
    ):
        assert engine.value("select event_matches(%s, %s)", name, patterns) is wanted, name


def test_those_who_do_not_emit_do_not_call_what_stores_events(engine: Engine) -> None:
    engine.execute("drop function store_events")
    engine.start(key=str(uuid.uuid4()))
    worker = engine.worker()
    assert worker.say(worker.claim_one(), "done").verdict == "applied"

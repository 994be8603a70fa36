"""Starting a saga: once per key, in the caller's transaction."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from threading import Barrier
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.fixtures import Schema, fresh_schema
from tests.sql.conftest import running_engine
from tests.sql.engine import Engine
from tests.sql.sagas import make_order
from tests.waiting import wait_until


@pytest.fixture
def connections(schema: Schema) -> Iterator[list[psycopg.Connection[Any]]]:
    """Twenty connections."""
    with ExitStack() as stack:
        yield [stack.enter_context(schema.connect()) for _ in range(20)]


def start_many(
    connection: psycopg.Connection[Any], keys: list[str | None] | None, *inputs: dict[str, Any]
) -> list[tuple[UUID, str, bool]]:
    return connection.execute(
        "select * from start_many('order', %s, %s)", ([Jsonb(i) for i in inputs], keys)
    ).fetchall()


def test_a_saga_is_created_and_waits_for_a_worker(engine: Engine) -> None:
    saga = engine.start(key="order-1", number=7)
    row, instance = engine.row(saga), engine.instance(saga)
    assert (row.type, row.version, row.status, row.state) == ("order", 1, "CREATED", "CREATED")
    assert (row.kind, row.step, row.seq, row.fence, row.worker) == ("action", "reserve", 0, 0, None)
    assert (instance.key, instance.input, instance.status) == ("order-1", {"number": 7}, None)
    assert instance.created_at == row.due_at == row.moved_at
    claimed = engine.worker().claim_one()
    assert (claimed.command, claimed.key, claimed.input) == (saga, "order-1", {"number": 7})
    assert (claimed.attempt, claimed.results, claimed.error) == (1, None, None)
    assert engine.row(saga).status == "EXECUTING"


def test_the_same_key_is_the_same_saga(engine: Engine) -> None:
    first = engine.start(key="k", number=1)
    assert engine.start(key="k", number=1) == first
    assert engine.value(
        "select id from start_many('order', array['{\"number\": 1.0}'::jsonb], '{k}')"
    )
    assert engine.start(key="other", number=1) != first
    assert engine.start("entry", key="k") != first, "a key is unique within its type"
    worker = engine.worker()
    worker.say(next(c for c in worker.claim() if c.command == first), "done")
    assert engine.start(key="k", number=1) == first, "however far it has come"


def test_without_a_key_every_start_is_another_saga(engine: Engine) -> None:
    one, two = engine.start(), engine.start()
    assert one != two
    assert engine.instance(one).key == str(one)
    assert one.version == 7
    assert one < two or one.int >> 80 == two.int >> 80, "ids sort by their time"


def test_the_same_key_with_another_input_is_refused(engine: Engine) -> None:
    engine.start(key="k", number=1)
    before = engine.everything()
    with pytest.raises(psycopg.Error, match='key "k" exists with another input') as caught:
        engine.start(key="k", number=2)
    assert caught.value.sqlstate == "SG003"
    with pytest.raises(psycopg.Error) as caught:
        start_many(engine.connection, ["new", "k"], {"number": 5}, {"number": 2})
    assert caught.value.sqlstate == "SG003"
    assert engine.everything() == before


def test_twenty_connections_at_once_start_one_saga(
    engine: Engine, connections: list[psycopg.Connection[Any]]
) -> None:
    barrier = Barrier(len(connections))

    def start(connection: psycopg.Connection[Any]) -> tuple[UUID, str, bool]:
        barrier.wait()
        return start_many(connection, ["k"], {"number": 1})[0]

    with ThreadPoolExecutor(len(connections)) as executor:
        found = list(executor.map(start, connections))
    assert len({saga for saga, _, _ in found}) == 1
    assert [created for _, _, created in found].count(True) == 1
    assert engine.value("select count(*) from outbox") == 1


def test_a_start_waits_for_the_one_with_the_same_key(
    engine: Engine, connections: list[psycopg.Connection[Any]]
) -> None:
    winner, loser = connections[:2]
    for ending in (winner.rollback, winner.commit):
        winner.autocommit = False
        first = start_many(winner, ["k"], {"number": 1})[0]
        with ThreadPoolExecutor() as executor:
            pending = executor.submit(start_many, loser, ["k"], {"number": 1})
            wait_until(lambda: engine.is_waiting(loser))
            ending()
            second = pending.result(timeout=20)[0]
        if ending == winner.commit:
            assert second == (first[0], "k", False)
        else:
            assert second[0] != first[0]
            assert second[2]
            engine.execute("delete from outbox; delete from instance")


def test_bulk_starts_with_the_same_keys_in_opposite_orders_do_not_deadlock(
    engine: Engine, connections: list[psycopg.Connection[Any]]
) -> None:
    keys: list[str | None] = [f"k{n:02}" for n in range(20)]
    blocker, one, other = connections[:3]
    blocker.autocommit = False
    start_many(blocker, ["k10"], {"number": 1})
    with ThreadPoolExecutor() as executor:
        inputs = [{"number": 1}] * len(keys)
        first = executor.submit(start_many, one, keys, *inputs)
        wait_until(lambda: engine.is_waiting(one))
        second = executor.submit(start_many, other, keys[::-1], *inputs)
        wait_until(lambda: engine.is_waiting(other))
        blocker.rollback()
        rows = [*first.result(timeout=20), *second.result(timeout=20)]
    assert sum(created for _, _, created in rows) == len(keys) == len({saga for saga, _, _ in rows})


def test_a_start_belongs_to_the_callers_transaction(engine: Engine) -> None:
    with engine.connection.transaction(force_rollback=True):
        assert engine.start(key="k")
        assert engine.value("select count(*) from outbox") == 1
    assert engine.value("select count(*) from outbox") == 0
    assert engine.value("select count(*) from instance") == 0


def test_under_repeatable_read_it_starts_and_a_lost_race_is_a_serialization_failure(
    engine: Engine, connections: list[psycopg.Connection[Any]]
) -> None:
    one = connections[0]
    one.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    one.autocommit = False
    mine = start_many(one, ["mine"], {"number": 1})[0]
    theirs = engine.start(key="theirs", number=1)
    with pytest.raises(psycopg.errors.SerializationFailure):
        start_many(one, ["theirs"], {"number": 1})
    one.rollback()
    assert start_many(one, ["theirs"], {"number": 1})[0] == (theirs, "theirs", False)
    again = start_many(one, ["mine"], {"number": 1})[0]
    one.commit()
    assert again[0] != mine[0]
    assert engine.row(again[0]).status == "CREATED"


def test_a_bulk_start_answers_in_the_order_given(engine: Engine) -> None:
    known = engine.start(key="m", number=2)
    inputs = [{"number": n} for n in range(4)]
    rows = start_many(engine.connection, ["z", None, "m", "a"], *inputs)
    assert [(key, created) for _, key, created in rows] == [
        *[("z", True), (str(rows[1][0]), True), ("m", False), ("a", True)],
    ]
    assert rows[2][0] == known
    assert [engine.instance(saga).input["number"] for saga, _, _ in rows] == [0, 1, 2, 3]


def test_a_bulk_start_without_keys_and_one_with_a_key_twice(engine: Engine) -> None:
    rows = start_many(engine.connection, None, {"number": 1}, {"number": 1})
    assert [(key, created) for saga, key, created in rows] == [(str(r[0]), True) for r in rows]
    twice = start_many(engine.connection, ["k", "k"], {"number": 1}, {"number": 1})
    assert twice[0][0] == twice[1][0]
    assert sorted(created for _, _, created in twice) == [False, True]
    assert start_many(engine.connection, []) == []


def test_a_saga_can_be_started_for_later(engine: Engine) -> None:
    due = engine.now() + timedelta(hours=1)
    saga = engine.start(due_at=due)
    past = engine.start(due_at=engine.now() - timedelta(hours=1))
    assert engine.row(saga).due_at == due
    assert engine.row(past).due_at == engine.instance(past).created_at
    worker = engine.worker(lease=timedelta(hours=2))
    assert [c.command for c in worker.claim()] == [past]
    engine.pass_time(timedelta(minutes=61))
    assert [c.command for c in worker.claim()] == [saga]


def test_the_newest_version_is_started_unless_one_is_named(engine: Engine) -> None:
    engine.register(make_order(version=2))
    assert engine.instance(engine.start()).version == 2
    assert engine.instance(engine.start(version=1)).version == 1


def test_it_works_on_postgres_15(pg15_dsn: str) -> None:
    with fresh_schema(pg15_dsn) as schema, running_engine(schema) as engine:
        one, failing = engine.start(key="a"), engine.start(key="b")
        assert engine.start(key="a") == one
        worker = engine.worker()
        for held in worker.claim():
            if held.command == one:
                last = worker.do(held, until="archive")
                assert worker.say(last, "done").status == "COMPLETED"
            else:
                undo = worker.say(worker.do(held, until="charge"), "rejected")
                assert worker.say(undo, "done").status == "FAILED"
        assert engine.instance(failing).error == {"type": "Boom", "message": "it broke"}
        abandoned = engine.start()
        worker.claim_one()
        engine.pass_time(60)
        assert [lost.command for lost in engine.reap()] == [abandoned]
        assert engine.abort(abandoned) == "COMPENSATING"
        engine.pass_time(60)
        successor = engine.worker()
        assert successor.doze() is not None
        assert successor.say(successor.claim_one(), "done").status == "FAILED"
        engine.execute("update setting set retention = '1 second'")
        engine.pass_time(60)
        assert engine.value("select removed from purge()") == 3

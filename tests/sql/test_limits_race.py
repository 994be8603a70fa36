"""Limits while everybody is at work: never exceeded, nothing leaked, nobody in a ring."""

import random
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from outbox.store.functions import Answer, Claimed
from tests.fixtures import Schema
from tests.sql.engine import Engine, Worker, report
from tests.sql.test_deadlock import LEASE, REFUSALS, Deed, own_engine

ROUNDS = 150
ALL, EACH = 5, 2


def work(engine: Engine, dice: random.Random) -> Iterator[Deed]:
    """A worker that is often taken for dead, and whose commands fail, wait and go on."""
    worker = engine.worker("order", "entry", lease=LEASE)
    hand: list[Claimed | Answer] = []

    def tell(held: Claimed | Answer) -> Any:
        outcome = dice.choice(["done"] * 6 + ["rejected", "retry", "in_doubt", "waiting"])
        result = '{"await": "time", "seconds": 0.02}' if outcome == "waiting" else None
        return report(held, outcome, result=result, after=timedelta())

    def claim() -> None:
        nonlocal worker
        if not worker.heartbeat():
            worker = Worker(engine, ["order", "entry"], LEASE, 1)
        hand[:] = worker.claim(dice.choice([1, 3, 10]))

    def advance() -> None:
        if hand:
            hand[:] = [a for a in worker.advance(*map(tell, hand)) if a.fence is not None]

    def leave() -> None:
        nonlocal worker
        hand[:] = []
        worker.deregister()
        worker = Worker(engine, ["order", "entry"], LEASE, 1)

    while True:
        yield claim
        for _ in range(dice.randrange(6)):
            yield advance
        yield lambda: worker.release(*hand)
        yield worker.doze
        if dice.random() < 0.1:
            yield leave


def start(engine: Engine, dice: random.Random) -> Iterator[Deed]:
    while True:
        yield lambda: engine.execute(
            "select start_many(%s, %s, p_priority => %s)",
            dice.choice(["order", "entry"]),
            [Jsonb({"number": dice.randrange(4)}) for _ in range(5)],
            dice.randrange(3),
        )


def reap(engine: Engine, dice: random.Random) -> Iterator[Deed]:
    while True:
        yield engine.reap


def operate(engine: Engine, dice: random.Random) -> Iterator[Deed]:
    def some_saga() -> UUID:
        rows = engine.rows("select id from outbox order by random() limit 1")
        return rows[0].id if rows else UUID(int=0)

    while True:
        yield lambda: engine.retry(some_saga())
        yield lambda: engine.abort(some_saga())
        yield lambda: engine.resolve(some_saga(), "FAILED")


def watch(engine: Engine, dice: random.Random) -> Iterator[Deed]:
    """What runs at any instant is not more than the limits allow."""

    def look() -> None:
        rows = engine.rows(
            "select o.type, i.input ->> 'number' as number, count(*) from outbox o "
            "join instance i on i.id = o.id where o.worker is not null group by 1, 2"
        )
        total: Counter[str] = Counter()
        for row in rows:
            total[row.type] += row.count
            if row.type == "order" and row.count > EACH:
                raise AssertionError(f"{row.count} of {row.number}")
        if max(total.values(), default=0) > ALL:
            raise AssertionError(f"{total}")

    while True:
        yield look
        yield engine.audit


def change(engine: Engine, dice: random.Random) -> Iterator[Deed]:
    """Limits come, change and go."""
    while True:
        for amount in (3, 1, 8):
            yield lambda: engine.execute("select set_limit('order', 'all', %s)", amount)  # noqa: B023
            yield lambda: engine.execute("select set_limit('entry', 'each', 2, 'number')")
        yield lambda: engine.execute("select set_limit('order', 'each', 1, 'number')")
        yield lambda: engine.execute("select set_limit('order', 'r', 9, p_per => '0.1 seconds')")
        yield lambda: engine.execute("select drop_limit('order', 'each')")
        yield lambda: engine.execute("select drop_limit('entry', 'each')")
        yield lambda: engine.execute("select set_limit('entry', 'all', 4, null, null, true)")


def run(
    schema: Schema, deeds: Any, number: int, seen: Counter[str], barrier: threading.Barrier
) -> None:
    dice = random.Random(number)
    with own_engine(schema) as engine:
        todo = deeds(engine, dice)
        barrier.wait()
        for _ in range(ROUNDS):
            try:
                next(todo)()
                seen[deeds.__name__] += 1
            except psycopg.Error as error:
                seen[error.sqlstate or str(error)] += 1
            except AssertionError as error:
                seen[f"too many: {error}"] += 1


@pytest.mark.parametrize("changing", [False, True], ids=["steady", "changing"])
def test_limits_hold_while_everybody_is_at_work(engine: Engine, changing: bool) -> None:
    engine.execute("update setting set hold = '0.1 seconds', grace = '0', max_deaths = 3")
    engine.execute("select set_limit('order', 'all', %s)", ALL)
    engine.execute("select set_limit('order', 'each', %s, 'number')", EACH)
    engine.execute("select set_limit('entry', 'all', %s)", ALL)
    roles = [work, work, work, work, start, reap, operate, change if changing else watch]
    seen: Counter[str] = Counter()
    barrier = threading.Barrier(len(roles))
    threads = [
        threading.Thread(target=run, args=(engine.schema, role, number, seen, barrier))
        for number, role in enumerate(roles)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors.DeadlockDetected.sqlstate not in seen, seen
    done = {role.__name__ for role in roles}
    refusals = {*REFUSALS, "SG004"}
    assert seen.keys() <= {*done, *refusals}, seen
    assert engine.audit() == []
    finish(engine)
    for _ in range(2):  # what ran when a limit came is counted, and forgotten, by looking
        engine.pass_time(10)
        engine.worker("order", "entry").claim()
    for table in ("slot", "ticket"):
        assert engine.value(f"select count(*) from {table}") == 0  # noqa: S608


def finish(engine: Engine) -> None:
    """One worker runs all that is left; nothing may be stuck in a queue."""
    worker = engine.worker("order", "entry", lease=timedelta(minutes=10))
    engine.pass_time(timedelta(minutes=2))
    worker.heartbeat()
    engine.reap(10_000)
    for _ in range(10_000):
        for row in engine.rows("select id from outbox where status = 'SUSPENDED'"):
            engine.resolve(row.id, "FAILED")
        hand: list[Claimed | Answer] = list(worker.claim(50))
        while hand:
            told = [report(held, "done") for held in hand]
            hand = [a for a in worker.advance(*told) if a.fence is not None]
        if not engine.value("select count(*) from outbox"):
            return
        engine.pass_time(1)
        worker.heartbeat()
    raise AssertionError(engine.rows("select * from queued limit 5"))

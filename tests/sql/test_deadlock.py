"""Everything against everything at once: somebody may wait, but never for one another in a ring."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg import errors
from psycopg.types.json import Jsonb

from outbox.store.functions import Answer, Claimed
from tests.fixtures import Schema
from tests.sql.engine import Engine, Worker, report

ROUNDS = 200
LEASE = timedelta(milliseconds=150)

REFUSALS = (
    *("SG004", "SG005", "SG006"),  # an operator came too late
    "SG003",  # a start after an amendment of an amendment
    "SG007",  # a worker was reaped
)
Deed = Callable[[], object]


@contextmanager
def own_engine(schema: Schema) -> Iterator[Engine]:
    engine = Engine(schema)
    try:
        yield engine
    finally:
        engine.connection.close()


def work(engine: Engine, dice: random.Random) -> Iterator[Deed]:
    """A worker that is often taken for dead, since its lease is shorter than its rounds."""
    outcomes = ["done"] * 5 + ["rejected", "retry", "in_doubt"]
    worker = engine.worker("order", "entry", lease=LEASE)
    hand: list[Claimed | Answer] = []

    def claim() -> None:
        nonlocal worker
        if not worker.heartbeat():
            worker = Worker(engine, ["order", "entry"], LEASE, 1)
        hand[:] = worker.claim(10)

    def advance() -> None:
        if hand:
            told = [report(h, dice.choice(outcomes), after=timedelta()) for h in hand]
            dice.shuffle(told)
            hand[:] = [a for a in worker.advance(*told) if a.fence is not None]

    def leave() -> None:
        nonlocal worker
        hand[:] = []
        worker.deregister()
        worker = Worker(engine, ["order", "entry"], LEASE, 1)

    while True:
        yield claim
        for _ in range(dice.randrange(4)):
            yield advance
        yield lambda: worker.release(*hand)
        yield worker.doze
        if dice.random() < 0.1:
            yield leave


def start(engine: Engine, dice: random.Random) -> Iterator[Deed]:
    """Bulk starts of the same few keys in any order."""

    def bulk() -> None:
        keys = [f"key-{dice.randrange(200)}" for _ in range(30)]
        engine.execute(
            "select start_many(%s, %s, %s)",
            *(dice.choice(["order", "entry"]), [Jsonb({})] * 30, keys),
        )

    while True:
        yield bulk


def reap(engine: Engine, dice: random.Random) -> Iterator[Deed]:
    while True:
        yield engine.reap
        yield lambda: engine.execute("select purge(50)")
        yield lambda: engine.execute("select * from raise_alerts()")
        yield engine.audit


def operate(engine: Engine, dice: random.Random) -> Iterator[Deed]:
    def some_saga() -> UUID:
        rows = engine.rows("select id from outbox order by random() limit 1")
        return rows[0].id if rows else UUID(int=0)

    while True:
        yield lambda: engine.retry(some_saga())
        yield lambda: engine.abort(some_saga())
        yield lambda: engine.resolve(some_saga(), "FAILED")


def steer(engine: Engine, dice: random.Random) -> Iterator[Deed]:
    """Acts on many, and pauses of one, of a type and of everything."""

    def many() -> None:
        act = dice.choice(["retry", "skip", "cancel", "pause_saga", "resume_saga"])
        rows = engine.rows(
            "select problem from act_many(%s, 'why', %s, %s)",
            *(act, Jsonb({"type": "order", "limit": 20}), dice.random() < 0.3),
        )
        assert not [row for row in rows if row.problem and "deadlock" in row.problem]

    def some_act() -> None:
        rows = engine.rows("select id, status from instance order by random() limit 1")
        for row in rows:
            act = "rerun" if row.status else dice.choice(["skip", "pause_saga", "resume_saga"])
            engine.act(act, row.id, "why")

    def amend() -> None:
        rows = engine.rows("select id from outbox order by random() limit 1")
        for row in rows:
            engine.act("amend", row.id, "why", Jsonb({"number": dice.randrange(9)}))

    while True:
        yield many
        yield some_act
        yield amend
        type_ = dice.choice(["order", "entry", None])
        yield lambda chosen=type_: engine.execute("select pause('why', %s)", chosen)  # type: ignore[misc]
        yield many
        yield lambda chosen=type_: engine.execute("select resume('why', %s)", chosen)  # type: ignore[misc]


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


def test_nobody_deadlocks_and_no_saga_is_harmed(engine: Engine) -> None:
    engine.execute("update setting set retention = '0.2 seconds', hold = '0.1 seconds'")
    engine.execute("update setting set grace = '0', max_deaths = 3")
    roles = [work, work, work, start, start, reap, reap, operate, steer]
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
    assert errors.DeadlockDetected.sqlstate not in seen
    done = {role.__name__ for role in roles}
    assert seen.keys() <= {*done, *REFUSALS}, seen
    assert all(seen[name] > ROUNDS / 4 for name in done), seen
    assert engine.audit() == []

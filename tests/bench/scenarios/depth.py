"""Throughput and the claim's time with many sagas waiting, and with many finished ones."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from uuid import uuid4

from tests.bench import load
from tests.bench.scenario import Bench, Scenario
from tests.bench.server import Connection, Database, value
from tests.bench.workers import UNDER_LOAD, Crew

NAME = "depth"
BASE = 10_000
# Of 4,000 in hand some are past the ledger when their workers stop, and are counted already.
DRAINED = 5_000
LONGEST = 120.0
CLAIMS, CLAIM_SIZE = 20, 100
WORKERS = 2


@dataclass(frozen=True)
class Level:
    """What is in the tables before anything is drained."""

    waiting: int
    finished: int

    def __str__(self) -> str:
        return f"{self.waiting:,} waiting, {self.finished:,} finished"


def run(bench: Bench) -> None:
    """Each level has a database of its own, filled once; they take turns in being drained of the
    same number of sagas, which are put back before the next turn."""
    quick = bench.options.quick
    deep = [Level(100_000, 0)] if quick else [Level(100_000, 0), Level(1_000_000, 0)]
    full = [Level(BASE, 500_000)] if quick else [Level(BASE, 5_000_000)]
    base = Level(BASE, 0)
    with ExitStack() as stack:
        databases = {}
        for level in (base, *deep, *full):
            database = databases[level] = stack.enter_context(bench.server.database())
            bench.say(f"filling the tables: {level}")
            with database.connect() as connection:
                load.insert_finished(connection, level.finished)
        # Not counted: what was just filled is still on its way to the disk, and not in the cache.
        for level, database in databases.items():
            _refill(bench, database, level)
            _drain(database, DRAINED)
        for _ in range(bench.options.repeats):
            for level, database in databases.items():
                _refill(bench, database, level)
                bench.add(NAME, f"claim of {CLAIM_SIZE}, {level}", _claim(database), "ms")
                bench.add(NAME, f"throughput, {level}", _drain(database, DRAINED), "sagas/s")
    for level, what in ((deep[-1], "waiting"), (full[-1], "finished")):
        now = bench.measures.median(NAME, f"throughput, {level}")
        before = bench.measures.median(NAME, f"throughput, {base}")
        bench.checks.at_least(
            f"throughput with many {what}",
            now / before,
            0.9,
            scaled=quick,
            note=f"{level}: {now:,.0f} sagas/s; {base}: {before:,.0f}",
        )


def _refill(bench: Bench, database: Database, level: Level) -> None:
    """Workers that are told to stop bring to its end what they hold, so what is missing varies."""
    with database.connect() as connection:
        left = int(value(connection, "select count(*) from outbox"))
        load.insert_waiting(connection, level.waiting - left)
        load.settle(connection)
    bench.server.maintain("checkpoint")


def _claim(database: Database) -> float:
    """The median time of a claim, in milliseconds; rolled back, so that it finds the same again."""
    worker, times = uuid4(), []
    with database.connect() as connection:
        connection.execute(
            "select register_worker(%s, 'bench', 1, array['payment'], array[1], '1 hour')", [worker]
        )
        for _ in range(CLAIMS):
            with connection.transaction(force_rollback=True):
                began = time.perf_counter()
                rows = connection.execute(
                    "select * from claim(%s, array['payment'], array[1], array[%s::int])",
                    [worker, CLAIM_SIZE],
                ).fetchall()
                times.append(time.perf_counter() - began)
                assert len(rows) == CLAIM_SIZE, f"a claim found {len(rows)} of {CLAIM_SIZE}"
        connection.execute("select deregister_worker(%s)", [worker])
    return median(times) * 1000


def _drain(database: Database, number: int) -> float:
    """Sagas a second, from the opening of the gate to the end of the ``number``-th saga."""
    with (
        database.connect() as connection,
        Crew(database, WORKERS, environment=UNDER_LOAD) as crew,
    ):
        entries = _entries(connection)
        began = value(connection, "select clock_timestamp()")
        crew.go()
        deadline = time.monotonic() + LONGEST
        # The ledger's last number tells how far they are at the price of a look at one page; the
        # last step is still missing then, hence a little more than the number.
        while _entries(connection) - entries < number + number // 20:
            crew.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{number} sagas have not passed the ledger in {LONGEST:g} s")
            time.sleep(0.02)
        crew.stop()
        ended = value(
            connection,
            "select max(ended_at) from (select ended_at from instance where ended_at > %s "
            "order by ended_at limit %s) as first_ended",
            began,
            number,
        )
        return number / float((ended - began).total_seconds())


def _entries(connection: Connection) -> int:
    return int(
        value(connection, "select coalesce(pg_sequence_last_value('ledger.entry_id_seq'), 0)")
    )


SCENARIO = Scenario(NAME, "throughput and claims with many waiting, and many finished", 50, run)

"""A worker that has nothing to do, one whose hands are full, and the first attempt of a saga."""

from __future__ import annotations

import time
from contextlib import ExitStack

from psycopg.conninfo import conninfo_to_dict

from outbox import Client
from tests.bench import load
from tests.bench.sagas import Nothing, probe, waiting
from tests.bench.scenario import Bench, Scenario
from tests.bench.server import SCHEMA, Connection, Database, value
from tests.bench.usage import ServerProcess
from tests.bench.workers import Crew

NAME = "idle"
IN_HAND = 1_000
LONG_TRANSACTION = 1.5
"""Seconds; a worker falls asleep long before."""
LONGEST = 30.0
APP = "tests.bench.sagas:app"


def run(bench: Bench) -> None:
    """The server is restarted with pg_stat_statements, which counts every statement."""
    with ExitStack() as stack:
        if bench.server.is_own:
            bench.server.restart(shared_preload_libraries="pg_stat_statements")
            stack.callback(bench.server.restart)
        for _ in range(bench.options.repeats):
            with bench.server.database() as database:
                _doing_nothing(bench, database)
                _first_attempts(bench, database)
            with bench.server.database() as database:
                _hands_full(bench, database)
    measures, checks = bench.measures, bench.checks
    checks.at_most("an idle worker's queries", measures.median(NAME, "queries"), 2.0, unit="/s")
    checks.at_most("an idle worker's CPU", measures.median(NAME, "CPU"), 1.0, unit="%")
    for name in ("first attempt", "first attempt, started in a long transaction"):
        checks.at_most(name, measures.median(NAME, f"{name}, slowest"), 50.0, unit="ms",
                       note="the slowest of each repeat, the median of those")  # fmt: skip
    checks.at_most(
        f"a worker with {IN_HAND:,} commands in hand",
        measures.median(NAME, f"memory with {IN_HAND:,} commands in hand"),
        150.0,
        unit="MB",
    )


def _doing_nothing(bench: Bench, database: Database) -> None:
    seconds = bench.options.size(90, 12)
    with Crew(database, 1, app=APP) as crew, bench.server.connect() as outside:
        crew.go()
        crew.wait_until_idle()
        count = _StatementCounter(outside, database)
        server = ServerProcess(outside)
        before, cpu, server_cpu = count(), crew.cpu_seconds(), server.cpu_seconds()
        began = time.perf_counter()
        time.sleep(seconds)  # this is what is measured
        passed = time.perf_counter() - began
        bench.add(NAME, "queries", (count() - before) / passed, "/s")
        bench.add(NAME, "CPU", (crew.cpu_seconds() - cpu) / passed * 100, "%")
        bench.add(NAME, "CPU of Postgres", (server.cpu_seconds() - server_cpu) / passed * 100, "%")
        bench.add(NAME, "memory", crew.memory_bytes() / 1e6, "MB")
        crew.stop()


class _StatementCounter:
    """Counts the statements sent to a database over all of its connections: by pg_stat_statements
    where it can be had, else its transactions, of which an explicit one counts once. It looks from
    another database, so that it does not count itself."""

    def __init__(self, outside: Connection, database: Database) -> None:
        self._outside = outside
        self._name = conninfo_to_dict(database.dsn)["dbname"]
        preloaded = value(outside, "select current_setting('shared_preload_libraries')")
        self._statements = "pg_stat_statements" in preloaded
        if self._statements:
            outside.execute("create extension if not exists pg_stat_statements")

    def __call__(self) -> int:
        if self._statements:
            return int(
                value(
                    self._outside,
                    "select coalesce(sum(calls), 0) from pg_stat_statements "
                    "where toplevel and dbid = (select oid from pg_database where datname = %s)",
                    self._name,
                )
            )
        return int(
            value(
                self._outside,
                "select xact_commit + xact_rollback from pg_stat_database where datname = %s",
                self._name,
            )
        )


def _first_attempts(bench: Bench, database: Database) -> None:
    """The worker is asleep whenever a saga is started; the clock runs from before the commit."""
    with Crew(database, 1, app=APP) as crew, database.connect() as connection:
        crew.go()
        for name, count, lasting in (
            ("first attempt", bench.options.size(100, 20), 0.0),
            (
                "first attempt, started in a long transaction",
                bench.options.size(10, 3),
                LONG_TRANSACTION,
            ),
        ):
            times = []
            for _ in range(count):
                crew.wait_until_idle()
                times.append(_first_attempt(connection, lasting) * 1000)
            times.sort()
            bench.add(NAME, name, times[len(times) // 2], "ms")
            bench.add(NAME, f"{name}, slowest", times[-1], "ms")
        crew.stop()


def _first_attempt(connection: Connection, lasting: float) -> float:
    """Seconds from when the start's commit was sent until its handler ran."""
    connection.execute("begin")
    saga = Client(SCHEMA).start(connection, probe, Nothing()).id
    time.sleep(lasting)
    sent = time.time()
    connection.execute("commit")
    deadline = time.monotonic() + LONGEST
    while time.monotonic() < deadline:
        row = connection.execute(
            "select (output ->> 'at')::float8 from instance where id = %s and status is not null",
            [saga],
        ).fetchone()
        if row is not None:
            return float(row[0]) - sent
        time.sleep(0.005)
    raise TimeoutError(f"a saga of type probe was not run within {LONGEST:g} s")


def _hands_full(bench: Bench, database: Database) -> None:
    environment = {"OUTBOX_CONCURRENCY": str(IN_HAND), "OUTBOX_SHUTDOWN_GRACE": "0"}
    with (
        Crew(database, 1, app=APP, environment=environment) as crew,
        database.connect() as connection,
    ):
        load.start(connection, IN_HAND, saga=waiting)
        crew.go()
        deadline = time.monotonic() + LONGEST
        while value(connection, "select count(*) from outbox where worker is not null") < IN_HAND:
            crew.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"a worker has not {IN_HAND} commands in hand in {LONGEST:g} s")
            time.sleep(0.05)
        # The handlers of the last claim are about to begin.
        time.sleep(1.0)
        memory = crew.memory_bytes() / 1e6
        bench.add(NAME, f"memory with {IN_HAND:,} commands in hand", memory, "MB")


SCENARIO = Scenario(NAME, "a worker with nothing to do, and with its hands full", 70, run)

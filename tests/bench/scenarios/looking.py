"""How long the dashboard's list and search take when there are many sagas, and what it costs the
workers that somebody looks on."""

from __future__ import annotations

import time
from contextlib import ExitStack
from statistics import median
from urllib.parse import urlencode

from tests.bench import load
from tests.bench.drain import drain_in
from tests.bench.onlookers import Dashboard, OnlookerEndedError, top
from tests.bench.sagas import LEDGER_FORMS
from tests.bench.scenario import Bench, Scenario
from tests.bench.server import Connection, Database, value

NAME = "looking"
PARTS = 20
LOOKS = 10
WORKERS = 2
ALTERNATIONS = 10
LIVE = ("/admin/live/sagas", "/admin/live/types", "/admin/live/health", "/admin/live/workers")
"""What the browsers keep open while the workers work."""


def run(bench: Bench) -> None:
    """The pages first, then the workers in turn with and without onlookers."""
    _pages(bench)
    _workers(bench)


def _pages(bench: Bench) -> None:
    sagas = bench.options.size(1_000_000, 100_000)
    with bench.server.database() as database, database.connect() as connection:
        bench.say(f"filling the tables: {sagas:,} finished")
        for _ in range(PARTS):
            load.insert_finished(connection, sagas // PARTS)
            load.insert_refused(connection, sagas // PARTS // 1000)
        load.insert_waiting(connection, 10_000)
        load.settle(connection)
        pages = _addresses(connection)
        with Dashboard(database) as dashboard:
            for path in pages.values():
                dashboard.milliseconds(path)
            for _ in range(1 if bench.options.quick else bench.options.repeats):
                for name, path in pages.items():
                    times = [dashboard.milliseconds(path) for _ in range(LOOKS)]
                    bench.add(NAME, name, median(times), "ms")
    slowest = max(pages, key=lambda name: bench.measures.median(NAME, name))
    bench.checks.at_most(
        f"list and search at {sagas:,} sagas",
        bench.measures.median(NAME, slowest),
        100.0,
        unit="ms",
        scaled=bench.options.quick,
        note=f"the slowest of {len(pages)} pages, with its way over HTTP: {slowest}",
    )


def _addresses(connection: Connection) -> dict[str, str]:
    """The pages to look at, by what they show."""
    middle = value(
        connection,
        "select id from instance order by id offset (select count(*) / 2 from instance) limit 1",
    )
    key = str(value(connection, "select key from instance where id = %s", middle))

    def found(**query: object) -> str:
        return f"/admin/sagas?{urlencode(query)}"

    return {
        "the list": "/admin/sagas",
        "the list, from its middle": found(before=middle),
        "by id": found(q=middle),
        "by key": found(q=key),
        "by the beginning of a key": found(q=key[:8]),
        "a key that there is not": found(q="nobody-has-this"),
        "by type": found(type="payment"),
        "by status FAILED": found(status="FAILED"),
        "by status COMPLETED": found(status="COMPLETED"),
        "by status SUSPENDED, of which there is none": found(status="SUSPENDED"),
        "by error": found(error="Rejected"),
        "by step": found(step="create_intent"),
        "by a step at which there is none": found(step="send_confirmation"),
        "by age, less than 15 minutes": found(age="<15m"),
        "by age, more than a day": found(age=">1d"),
        "one saga": f"/admin/sagas/{middle}",
    }


def _workers(bench: Bench) -> None:
    alternations = 1 if bench.options.quick else ALTERNATIONS
    sagas = bench.options.size(60_000, 10_000)
    shares = []
    for _ in range(alternations):
        alone = _rate(bench, sagas, watched=False)
        watched = _rate(bench, sagas, watched=True)
        bench.add(NAME, "workers alone", alone, "sagas/s")
        bench.add(NAME, "with the dashboard and saga top", watched, "sagas/s")
        shares.append(watched / alone)
    bench.checks.at_least(
        "throughput while the dashboard and saga top are open",
        median(shares),
        0.9,
        scaled=bench.options.quick,
        note=f"median of {alternations} alternations, {min(shares):.2f} to {max(shares):.2f}; "
        f"{len(LIVE)} pages open",
    )


def _rate(bench: Bench, sagas: int, *, watched: bool) -> float:
    with bench.server.database() as database, ExitStack() as stack:
        seen = _look_on(database, stack) if watched else []
        drained = drain_in(
            database, sagas=sagas, workers=WORKERS, saga=LEDGER_FORMS["bulk-transactional"]
        )
        if watched and not all(counts[place] for counts in seen for place in range(len(counts))):
            raise OnlookerEndedError(f"somebody saw nothing: {seen}")
    return drained.sagas_per_second


def _look_on(database: Database, stack: ExitStack) -> list[list[int]]:
    """Lets them begin, and come to rest."""
    dashboard = stack.enter_context(Dashboard(database))
    seen = [
        stack.enter_context(dashboard.kept_open(LIVE)),
        stack.enter_context(top(database)),
    ]
    time.sleep(2)
    return seen


SCENARIO = Scenario(NAME, "the dashboard's list and search, and what onlookers cost", 55, run)

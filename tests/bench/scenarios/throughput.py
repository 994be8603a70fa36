"""Payment sagas drained by worker processes, beside the floor and pgbench."""

from __future__ import annotations

from tests.bench.drain import Drained, drain
from tests.bench.floor import CONNECTIONS, run_floor
from tests.bench.sagas import LEDGER_FORMS
from tests.bench.scenario import Bench, Scenario
from tests.bench.yardsticks import yardsticks

NAME = "throughput"
WORKERS = (1, 2, 4)
PGBENCH = "pgbench simple-update, 16 clients"
FLOORS = [f"floor, {connections} connections" for connections in CONNECTIONS]
BARS = {"bulk-transactional": 0.70, "transactional": 0.35}
"""Of the floor's sagas a second, by the form of the ledger step."""
SAGAS = {"bulk-transactional": 10_000, "transactional": 5_000}
"""In a quick run: some seconds of either."""


def run(bench: Bench) -> None:
    """Each repeat: the floor, pgbench, then every form of the saga with every number of workers."""
    options = bench.options
    floor_sagas = options.size(60_000, 8_000)
    with yardsticks(bench.server) as yardstick:
        for _ in range(options.repeats):
            for name, connections in zip(FLOORS, CONNECTIONS, strict=True):
                done = run_floor(bench.server, sagas=floor_sagas, connections=connections)
                bench.add(NAME, name, done.sagas_per_second, "sagas/s")
            bench.add(NAME, PGBENCH, yardstick.simple_update(16, options.size(10, 2)), "tps")
            for form in LEDGER_FORMS:
                _measure(bench, form, options.size(60_000, SAGAS[form]))
    for form in BARS:
        _check(bench, form)


def _measure(bench: Bench, form: str, sagas: int) -> None:
    saga = LEDGER_FORMS[form]
    rates = {}
    for workers in WORKERS:
        drained = drain(bench.server, sagas=sagas, workers=workers, saga=saga)
        rates[workers] = drained.sagas_per_second
        _add(bench, f"{form}, {workers} workers", drained)
    best = max(rates, key=lambda workers: rates[workers])
    drained = drain(bench.server, sagas=sagas, workers=best, saga=saga, failing=True)
    _add(bench, f"{form}, one in ten fails", drained)


def _add(bench: Bench, name: str, drained: Drained) -> None:
    def add(what: str, value: float, unit: str) -> None:
        bench.add(NAME, f"{name}{what}", value, unit)

    sagas = drained.sagas
    add("", drained.sagas_per_second, "sagas/s")
    add(", steps", drained.steps_per_second, "steps/s")
    add(", CPU of workers", drained.worker_cpu / sagas * 1e6, "µs/saga")
    add(", CPU of Postgres", drained.server_cpu / sagas * 1e6, "µs/saga")
    add(", log of the start", drained.start_log_bytes / sagas, "bytes/saga")
    add(", log of the run", drained.log_bytes / sagas, "bytes/saga")
    add(", log with full pages", drained.log_bytes_with_images / sagas, "bytes/saga")
    for table in ("outbox", "transition", "instance", "entry"):
        add(f", writes to {table}", drained.row_writes.get(table, 0) / sagas, "rows/saga")
    add(", HOT updates of outbox", drained.hot_share * 100, "%")


def _check(bench: Bench, form: str) -> None:
    measures, checks = bench.measures, bench.checks
    name = f"throughput, {form} ledger, against the floor"
    floor = measures.best(NAME, FLOORS)
    best = measures.best(NAME, [f"{form}, {workers} workers" for workers in WORKERS])
    reached, possible = measures.median(NAME, best), measures.median(NAME, floor)
    steps = measures.median(NAME, f"{best}, steps")
    pgbench = measures.median(NAME, PGBENCH)
    failing = measures.median(NAME, f"{form}, one in ten fails, steps")
    log = measures.median(NAME, f"{best}, log of the run")
    start_log = measures.median(NAME, f"{best}, log of the start")
    checks.at_least(
        name,
        reached / possible,
        BARS[form],
        note=f"{best}: {reached:,.0f} of {possible:,.0f} sagas/s ({floor})",
    )
    if form == "bulk-transactional":
        checks.at_least(
            f"steps, {form} ledger, against pgbench simple-update at 16 clients",
            steps / pgbench,
            5.0,
            note=f"{steps:,.0f} steps/s, {pgbench:,.0f} tps",
        )
    checks.at_least(
        f"one in ten fails and is undone, {form} ledger",
        failing / steps,
        0.8,
        note=f"{failing:,.0f} of {steps:,.0f} steps/s",
    )
    checks.at_most(
        f"log a saga, {form} ledger",
        log + start_log,
        2500,
        unit="bytes",
        note=f"{start_log:,.0f} for the start, {log:,.0f} for the run; no full-page images",
    )


SCENARIO = Scenario(NAME, "payment sagas drained by 1, 2 and 4 worker processes", 20, run)

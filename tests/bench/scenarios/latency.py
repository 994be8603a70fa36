"""From a payment's arrival to its completion seen, beside six one-row commits in a row."""

from __future__ import annotations

import time

from tests.bench.arrivals import Payments, arrive
from tests.bench.measure import percentile
from tests.bench.plots import plot_latencies
from tests.bench.scenario import Bench, Scenario
from tests.bench.verdict import require_all_completed
from tests.bench.workers import Crew
from tests.bench.yardsticks import insert_one, yardsticks

NAME = "latency"
COMMITS = 6
"""A start, a claim, four advances."""
SHARES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
ENGINE, YARDSTICK = "start to COMPLETED", f"{COMMITS} one-row commits"
WARM_UP = 2.0


def run(bench: Bench) -> None:
    """Turns of payments and of plain commits, at the same rate, with one worker process."""
    options = bench.options
    seconds = options.size(60, 10)
    samples: dict[str, list[float]] = {ENGINE: [], YARDSTICK: []}
    with (
        yardsticks(bench.server) as yardstick,
        yardstick.connect() as connection,
        bench.server.database() as database,
        Crew(database, 1) as crew,
    ):
        crew.go()
        crew.wait_until_idle()

        def commit(due: float) -> None:
            for _ in range(COMMITS):
                insert_one(connection)
            samples[YARDSTICK].append(time.perf_counter() - due)

        payments = Payments(database)
        done = len(payments.run(options.rate, WARM_UP))
        for _ in range(max(options.repeats, 2)):
            measured = payments.run(options.rate, seconds)
            done += len(measured)
            samples[ENGINE] += measured
            _add(bench, ENGINE, measured)
            first = len(samples[YARDSTICK])
            arrive(options.rate, seconds, commit)
            _add(bench, YARDSTICK, samples[YARDSTICK][first:])
        crew.stop()
        require_all_completed(database, done)
    _check(bench, samples)
    if options.plots is not None:
        title = f"{options.rate:g} arrivals a second, {len(samples[ENGINE])} payments"
        plot_latencies(options.plots / "latency.svg", title, samples)


def _add(bench: Bench, name: str, values: list[float]) -> None:
    for share, at in SHARES.items():
        bench.add(NAME, f"{name}, {share}", percentile(values, at) * 1000, "ms")


def _check(bench: Bench, samples: dict[str, list[float]]) -> None:
    """Percentiles of all samples together, for a few hundred have no p99.9."""
    note = f"{{:.1f}} of {{:.1f}} ms; {len(samples[ENGINE])} samples at {bench.options.rate:g}/s"
    for share, bar in {"p50": 2.0, "p99": 5.0}.items():
        engine = percentile(samples[ENGINE], SHARES[share]) * 1000
        commits = percentile(samples[YARDSTICK], SHARES[share]) * 1000
        bench.checks.at_most(
            f"latency {share}, against {COMMITS} one-row commits",
            engine / commits,
            bar,
            note=note.format(engine, commits),
        )


SCENARIO = Scenario(NAME, "arrival to completion seen, at 20 a second (--rate)", 30, run)

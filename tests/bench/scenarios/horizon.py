"""Sustained load while another session holds a snapshot, which keeps vacuum from its work."""

from __future__ import annotations

import time
from statistics import fmean

from tests.bench import load
from tests.bench.plots import plot_rate
from tests.bench.sagas import payment
from tests.bench.scenario import Bench, Scenario
from tests.bench.server import Connection, Database, value
from tests.bench.workers import UNDER_LOAD, Crew

NAME = "horizon"
WORKERS = 2
BACKLOG = 5_000
"""So many sagas wait at least, that the workers are never short of work."""


def run(bench: Bench) -> None:
    """Once whatever the repeats are, for it takes minutes and shows its own course."""
    before, held, after = (10, 30, 5) if bench.options.quick else (60, 300, 60)
    with (
        bench.server.database() as database,
        Crew(database, WORKERS, environment=UNDER_LOAD) as crew,
    ):
        with database.connect() as connection, database.connect(name="bench snapshot") as holder:
            feeder = _Feeder(connection, crew)
            while feeder.fill():
                pass
            crew.go()
            began = value(connection, "select clock_timestamp()")
            start = time.perf_counter()
            feeder.feed(before)
            hold_from = time.perf_counter() - start
            holder.execute("begin isolation level repeatable read")
            # With a transaction id too: some of what vacuum spares depends on the one, some on the
            # other.
            value(holder, "select pg_current_xact_id()::text")
            feeder.feed(held)
            holder.execute("rollback")
            hold_to = time.perf_counter() - start
            feeder.feed(after)
            until = value(connection, "select clock_timestamp()")
        crew.stop()
        seconds = 1 if bench.options.quick else 5
        rates = _rates(database, began, until, seconds)
    at = [seconds * (place + 0.5) for place in range(len(rates))]
    undisturbed = [r for t, r in zip(at, rates, strict=True) if hold_from * 0.3 < t < hold_from]
    end_of_hold = hold_to - (hold_to - hold_from) * 0.2
    last = [r for t, r in zip(at, rates, strict=True) if end_of_hold < t < hold_to]
    first_rate, last_rate = fmean(undisturbed), fmean(last)
    bench.add(NAME, "before the snapshot", first_rate, "sagas/s")
    bench.add(NAME, "in the last fifth of its life", last_rate, "sagas/s")
    bench.add(NAME, "after it", fmean(r for t, r in zip(at, rates, strict=True) if t > hold_to),
              "sagas/s")  # fmt: skip
    bench.checks.at_least(
        "throughput at the end of a held snapshot, against before it",
        last_rate / first_rate,
        0.8,
        scaled=bench.options.quick,
        note=f"{last_rate:,.0f} of {first_rate:,.0f} sagas/s, held for {hold_to - hold_from:.0f} s",
    )
    if bench.options.plots is not None:
        title = "Payments a second while another session holds a snapshot"
        path = bench.options.plots / "horizon.svg"
        plot_rate(path, title, "sagas/s", at, rates, (hold_from, hold_to))


class _Feeder:
    """Keeps the backlog filled.

    How many wait is told from the ledger's last id, since counting the outbox would itself suffer
    from the dead rows that this is about.
    """

    def __init__(self, connection: Connection, crew: Crew) -> None:
        self._connection = connection
        self._crew = crew
        self._started = 0

    def feed(self, seconds: float) -> None:
        """For so long."""
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            self._crew.check()
            if not self.fill():
                time.sleep(0.01)

    def fill(self) -> bool:
        """Starts one bulk of sagas when too few wait; whether it did."""
        entered = value(self._connection, "select coalesce(max(id), 0) from entry")
        if self._started - entered >= BACKLOG:
            return False
        load.start(self._connection, load.BULK, saga=payment)
        self._started += load.BULK
        return True


def _rates(database: Database, began: object, until: object, seconds: int) -> list[float]:
    """Sagas that ended a second, by stretches of so many seconds, from the history."""
    with database.connect() as connection:
        rows = connection.execute(
            "select floor(extract(epoch from ended_at - %(began)s::timestamptz) / %(s)s)::int, "
            "count(*) from instance where ended_at between %(began)s and %(until)s group by 1",
            {"began": began, "until": until, "s": seconds},
        ).fetchall()
    counted = {int(place): int(number) for place, number in rows}
    return [counted.get(place, 0) / seconds for place in range(max(counted))]


SCENARIO = Scenario(NAME, "sustained load while another session holds a snapshot", 60, run)

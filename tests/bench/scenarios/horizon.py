"""Sustained load while another session holds a snapshot, which keeps vacuum from its work."""

from __future__ import annotations

import time
from math import inf
from statistics import fmean
from typing import NamedTuple

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


class Course(NamedTuple):
    """Sagas a second, the middles of the stretches that this was counted in, and from when to when
    the snapshot was held, or would have been; in seconds from the beginning."""

    rates: list[float]
    at: list[float]
    hold_from: float
    hold_to: float

    def mean(self, begin: float, end: float) -> float:
        """The mean rate between two moments."""
        return fmean(r for t, r in zip(self.at, self.rates, strict=True) if begin < t < end)

    @property
    def at_first(self) -> float:
        """Before the snapshot, once the workers had got going."""
        return self.mean(self.hold_from * 0.3, self.hold_from)

    @property
    def at_last(self) -> float:
        """In the last fifth of the snapshot's life."""
        return self.mean(self.hold_to - (self.hold_to - self.hold_from) * 0.2, self.hold_to)


def run(bench: Bench) -> None:
    """Once whatever the repeats are, for it takes minutes and shows its own course; and once
    without a snapshot, since what is written in such a time slows the workers too; that, not in a
    quick run."""
    free = None if bench.options.quick else _course(bench, holds=False)
    held = _course(bench, holds=True)
    bench.add(NAME, "before the snapshot", held.at_first, "sagas/s")
    bench.add(NAME, "in the last fifth of its life", held.at_last, "sagas/s")
    bench.add(NAME, "after it", held.mean(held.hold_to, inf), "sagas/s")
    note = (
        f"{held.at_last:,.0f} of {held.at_first:,.0f} sagas/s, held for "
        f"{held.hold_to - held.hold_from:.0f} s"
    )
    if free is not None:
        bench.add(NAME, "without a snapshot, at first", free.at_first, "sagas/s")
        bench.add(NAME, "without a snapshot, in that fifth", free.at_last, "sagas/s")
        bench.add(NAME, "without a snapshot, after it", free.mean(free.hold_to, inf), "sagas/s")
        note += f"; without one {free.at_last:,.0f} of {free.at_first:,.0f}"
    bench.checks.at_least(
        "throughput at the end of a held snapshot, against before it",
        held.at_last / held.at_first,
        0.8,
        scaled=bench.options.quick,
        note=note,
    )
    if bench.options.plots is not None:
        title = "Payments a second while another session holds a snapshot"
        path = bench.options.plots / "horizon.svg"
        span = (held.hold_from, held.hold_to)
        other = None if free is None else (free.at, free.rates)
        plot_rate(path, title, "sagas/s", held.at, held.rates, span, other)


def _course(bench: Bench, *, holds: bool) -> Course:
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
            if holds:
                holder.execute("begin isolation level repeatable read")
                # With a transaction id too: some of what vacuum spares depends on the one, some on
                # the other.
                value(holder, "select pg_current_xact_id()::text")
            feeder.feed(held)
            if holds:
                holder.execute("rollback")
            hold_to = time.perf_counter() - start
            feeder.feed(after)
            until = value(connection, "select clock_timestamp()")
        crew.stop()
        seconds = 1 if bench.options.quick else 5
        rates = _rates(database, began, until, seconds)
    at = [seconds * (place + 0.5) for place in range(len(rates))]
    return Course(rates, at, hold_from, hold_to)


class _Feeder:
    """Keeps the backlog filled.

    How many wait is told from the last id that the ledger gave, since counting the outbox would
    itself suffer from the dead rows that this is about. It is the sequence that is asked: the
    ledger has no index by id, so its greatest would cost a look at all of it, again and again.
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
        entered = value(
            self._connection, "select coalesce(pg_sequence_last_value('ledger.entry_id_seq'), 0)"
        )
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

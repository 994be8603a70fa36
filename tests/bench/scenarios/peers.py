"""The same payments on other engines and queues, beside this engine and pgbench."""

from __future__ import annotations

import importlib
import pkgutil

from tests.bench.arrivals import Payments
from tests.bench.drain import drain
from tests.bench.measure import percentile
from tests.bench.peers.measure import WARM_UP, Measured, measure
from tests.bench.peers.peer import Peer
from tests.bench.sagas import LEDGER_FORMS
from tests.bench.scenario import Bench, Scenario
from tests.bench.verdict import require_all_completed
from tests.bench.workers import Crew
from tests.bench.yardsticks import yardsticks

NAME = "peers"
PGBENCH = "pgbench simple-update, 16 clients"
EARLIER_PGBENCH = 2_900.0
"""What pgbench came to on the machine where the peers reached their earlier figures."""
OURS, WORKERS = "this engine", 2
SHARES = {"p50": 0.5, "p99": 0.99}


def run(bench: Bench) -> None:
    """Each repeat: this engine, then pgbench and a peer in turns, each in a database of its own."""
    options = bench.options
    peers = find_peers()
    with yardsticks(bench.server) as yardstick:
        for _ in range(options.repeats):
            ours = _measure_ours(bench)
            _add(bench, OURS, ours)
            for peer in peers:
                tps = yardstick.simple_update(16, options.size(5, 1))
                bench.add(NAME, PGBENCH, tps, "tps")
                theirs = measure(
                    bench.server,
                    peer,
                    sagas=options.size(*peer.sagas),
                    rate=options.rate,
                    seconds=_seconds(bench),
                )
                _add(bench, peer.title, theirs)
                _compare(bench, peer.title, ours, theirs)
    for peer in peers:
        _check(bench, peer)


def find_peers() -> list[Peer]:
    """Every ``PEER`` of the modules in ``tests.bench.peers``, loaded only now, for their packages
    are large."""
    package = importlib.import_module("tests.bench.peers")
    return [
        importlib.import_module(f"{package.__name__}.{module.name}").PEER
        for module in pkgutil.iter_modules(package.__path__)
        if module.name.startswith("with_")
    ]


def _measure_ours(bench: Bench) -> Measured:
    options, saga = bench.options, list(LEDGER_FORMS.values())[-1]
    sagas = options.size(60_000, 3_000)
    drained = drain(bench.server, sagas=sagas, workers=WORKERS, saga=saga)
    with bench.server.database() as database, Crew(database, WORKERS) as crew:
        crew.go()
        crew.wait_until_idle()
        payments = Payments(database)
        done = len(payments.run(options.rate, WARM_UP))
        latencies = payments.run(options.rate, _seconds(bench))
        crew.stop()
        require_all_completed(database, done + len(latencies))
    return Measured(drained.sagas_per_second, latencies)


def _seconds(bench: Bench) -> int:
    return bench.options.size(30, 3)


def _add(bench: Bench, name: str, measured: Measured) -> None:
    bench.add(NAME, name, measured.sagas_per_second, "sagas/s")
    for share, at in SHARES.items():
        bench.add(NAME, f"{name}, {share}", percentile(measured.latencies, at) * 1000, "ms")


def _compare(bench: Bench, name: str, ours: Measured, theirs: Measured) -> None:
    rates = ours.sagas_per_second / theirs.sagas_per_second
    bench.add(NAME, f"sagas/s of {OURS} to those of {name}", rates, "×")
    medians = percentile(ours.latencies, 0.5) / percentile(theirs.latencies, 0.5)
    bench.add(NAME, f"p50 of {OURS} to that of {name}", medians, "×")


def _check(bench: Bench, peer: Peer) -> None:
    pgbench = bench.measures.median(NAME, PGBENCH)
    bench.checks.at_least(
        f"peer {peer.name} counts: reaches its earlier figure, scaled by pgbench",
        bench.measures.median(NAME, peer.title),
        peer.earlier * pgbench / EARLIER_PGBENCH,
        unit="sagas/s",
        note=f"{peer.earlier:g} sagas/s earlier; pgbench {pgbench:,.0f} tps, earlier "
        f"{EARLIER_PGBENCH:,.0f}",
    )


SCENARIO = Scenario(NAME, "the same payments on DBOS, absurd, pgqueuer and procrastinate", 80, run)

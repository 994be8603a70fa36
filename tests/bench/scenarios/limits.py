"""What limits cost: the same payments without any, with one of the type, and one a merchant."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from outbox.rules import Rules
from tests.bench.drain import drain_in
from tests.bench.sagas import LEDGER_FORMS
from tests.bench.scenario import Bench, Scenario
from tests.bench.server import SCHEMA, Connection

NAME = "limits"
WORKERS = 2
FORM = "bulk-transactional"
FREE = "no limit"


def _of_type(rules: Rules, connection: Connection, type_: str) -> None:
    rules.set_limit(connection, type_, "all", 1000)


def _of_merchants(rules: Rules, connection: Connection, type_: str) -> None:
    rules.set_limit(connection, type_, "merchant", 20, key="merchant")


LIMITS: dict[str, Callable[[Rules, Connection, str], None] | None] = {
    FREE: None,
    "1,000 of the type at once": _of_type,
    "20 at once of each of 50 merchants": _of_merchants,
}


def run(bench: Bench) -> None:
    """The limits take turns; each is held against the drain without any of its own turn."""
    sagas = bench.options.size(40_000, 10_000)
    shares: dict[str, list[float]] = {name: [] for name in LIMITS if name != FREE}
    for _ in range(1 if bench.options.quick else bench.options.repeats):
        rates = {}
        for name, limit in LIMITS.items():
            rates[name] = rate = _rate(bench, sagas, limit)
            bench.add(NAME, name, rate, "sagas/s")
        for name, found in shares.items():
            found.append(rates[name] / rates[FREE])
    for name, found in shares.items():
        bench.checks.at_least(
            f"throughput with a limit, {name}",
            median(found),
            0.5,
            scaled=bench.options.quick,
            note=f"against none in the same turn, {min(found):.2f} to {max(found):.2f}",
        )


def _rate(
    bench: Bench, sagas: int, limit: Callable[[Rules, Connection, str], None] | None
) -> float:
    saga = LEDGER_FORMS[FORM]
    with bench.server.database() as database:
        if limit is not None:
            with database.connect() as connection:
                limit(Rules(SCHEMA), connection, saga.type)
        return drain_in(database, sagas=sagas, workers=WORKERS, saga=saga).sagas_per_second


SCENARIO = Scenario(NAME, "what limits cost", 30, run)

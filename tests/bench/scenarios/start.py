"""How fast sagas can be started, beside commits of one inserted row by the same kind of client."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from outbox import Client
from tests.bench import load
from tests.bench.sagas import payment
from tests.bench.scenario import Bench, Scenario
from tests.bench.server import SCHEMA, Connection, Database
from tests.bench.yardsticks import yardsticks

NAME = "start"
CONNECTIONS = (1, 8)


def run(bench: Bench) -> None:
    """One a transaction over 1 and 8 connections, and 1,000 a statement; no worker runs."""
    seconds = bench.options.size(10, 2)
    with yardsticks(bench.server) as yardstick:
        for _ in range(bench.options.repeats):
            with bench.server.database() as database:
                for connections in CONNECTIONS:
                    bench.add(
                        NAME,
                        f"one a transaction, {connections} connections",
                        _rate(database, connections, seconds, _start_one),
                        "sagas/s",
                    )
                    bench.add(
                        NAME,
                        f"one-row insert commits, {connections} connections",
                        yardstick.python_insert_commits(connections, seconds),
                        "tps",
                    )
                bench.add(
                    NAME,
                    f"{load.BULK:,} a statement, 1 connection",
                    _rate(database, 1, seconds, _start_bulk),
                    "sagas/s",
                )


def _rate(
    database: Database, connections: int, seconds: float, work: Callable[[Connection], int]
) -> float:
    """What ``work`` says it has done, a second, by a thread for each connection."""

    def serve(until: float) -> int:
        done = 0
        with database.connect() as connection:
            while time.perf_counter() < until:
                done += work(connection)
        return done

    with ThreadPoolExecutor(connections) as pool:
        began = time.perf_counter()
        done = sum(pool.map(serve, [began + seconds] * connections))
        return done / (time.perf_counter() - began)


def _start_one(connection: Connection) -> int:
    ((key, payment_input),) = load.payments(1)
    _client.start(connection, payment, payment_input, key=key)
    return 1


def _start_bulk(connection: Connection) -> int:
    load.start(connection, load.BULK, saga=payment)
    return load.BULK


_client = Client(SCHEMA)
SCENARIO = Scenario(NAME, "starting sagas one by one and in bulk", 40, run)

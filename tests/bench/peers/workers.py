"""A peer's worker processes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

from tests.bench.peers.peer import DSN, READY, Peer
from tests.bench.server import Connection, Database, value
from tests.bench.workers import ROOT, START_SECONDS, STOP_SECONDS, WorkerEndedError


class Workers:
    """A context manager around them; all are up when it has been entered.

    Args:
        peer: whose.
        database: where they work.
    """

    def __init__(self, peer: Peer, database: Database) -> None:
        self._peer = peer
        self._database = database
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="outbox-bench-peer-"))
        try:
            for number in range(self._peer.processes):
                self._spawn(number)
            with self._database.connect(name="bench look") as connection:
                self._wait_until_up(connection)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for log in self._directory.iterdir():
            log.unlink()
        self._directory.rmdir()

    def check(self) -> None:
        """Raises WorkerEndedError when one is not running."""
        for number, process in enumerate(self._processes):
            if process.poll() is not None:
                raise WorkerEndedError(
                    f"worker {number} of {self._peer.name} ended with exit code "
                    f"{process.returncode}: {self.log(number)}"
                )

    def log(self, number: int) -> str:
        """The last words of one."""
        return (self._directory / str(number)).read_text(errors="replace")[-2000:]

    def _spawn(self, number: int) -> None:
        with (self._directory / str(number)).open("wb") as log:
            self._processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", self._peer.module],
                    env={**os.environ, DSN: self._database.dsn, "PYTHONPATH": str(ROOT)},
                    cwd=self._directory,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            )

    def _wait_until_up(self, connection: Connection) -> None:
        deadline = time.monotonic() + START_SECONDS
        while (
            value(
                connection,
                "select count(*) from pg_locks where locktype = 'advisory' and granted "
                "and objid = %s and database = (select oid from pg_database "
                "where datname = current_database())",
                READY,
            )
            < self._peer.processes
        ):
            self.check()
            if time.monotonic() > deadline:
                raise WorkerEndedError(
                    f"the workers of {self._peer.name} are not up within {START_SECONDS:g} s: "
                    f"{self.log(0)}"
                )
            time.sleep(0.01)

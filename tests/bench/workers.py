"""Worker processes under the benchmark's eyes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import LiteralString, Self

import psutil

from tests.bench.sagas import GATE
from tests.bench.server import Database, value

ROOT = Path(__file__).parents[2]
START_SECONDS, STOP_SECONDS = 60.0, 30.0

UNDER_LOAD: Mapping[str, str] = {
    "OUTBOX_CONCURRENCY": "500",
    "OUTBOX_IN_HAND": "2000",
    "OUTBOX_TRANSACTIONS": "2",
}
"""For workers that are to be busy with handlers that end at once: what they hold is on its way to
the database, and the more of it goes there together, the less each costs. The defaults are for
handlers that wait for somebody else."""


class WorkerEndedError(Exception):
    """A worker ended, or did not come up; the message has its last words."""


class Crew:
    """Workers that stand behind the gate, ready to begin, and begin at ``go``.

    Args:
        database: theirs.
        count: how many processes.
        app: what they run, ``module:app``.
        environment: settings beside the database, such as ``OUTBOX_CONCURRENCY``.
    """

    def __init__(
        self,
        database: Database,
        count: int,
        *,
        app: str = "tests.bench.sagas:payment_app",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._database = database
        self._count = count
        self._app = app
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("OUTBOX_")},
            "OUTBOX_DSN": database.dsn,
            "OUTBOX_LOG_LEVEL": "warning",
            "PYTHONPATH": str(ROOT),
            **(environment or {}),
        }
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="outbox-bench-workers-"))
        self._gate = self._database.connect(name="bench gate")
        self._gate.execute("select pg_advisory_lock(%s)", [GATE])
        try:
            for number in range(self._count):
                self._spawn(number)
            self._wait_for_all(
                "select count(*) from pg_locks where locktype = 'advisory' and not granted "
                "and database = (select oid from pg_database where datname = current_database())"
            )
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        self._gate.close()
        for log in self._directory.iterdir():
            log.unlink()
        self._directory.rmdir()

    def go(self) -> None:
        """Opens the gate."""
        self._gate.execute("select pg_advisory_unlock(%s)", [GATE])

    def wait_until_idle(self) -> None:
        """Returns when all have registered and fallen asleep."""
        self._wait_for_all("select count(*) from saga.worker where idle")

    def cpu_seconds(self) -> float:
        """The processor time that they have used so far, user and system."""
        times = [psutil.Process(process.pid).cpu_times() for process in self._processes]
        return sum(t.user + t.system for t in times)

    def memory_bytes(self) -> int:
        """The resident memory of the largest."""
        return max(psutil.Process(p.pid).memory_info().rss for p in self._processes)

    def check(self) -> None:
        """Raises WorkerEndedError when one is not running."""
        for number, process in enumerate(self._processes):
            if process.poll() is not None:
                code = process.returncode
                raise WorkerEndedError(
                    f"worker {number} ended with exit code {code}: {self._log(number)}"
                )

    def stop(self) -> None:
        """Lets them end in order, so that the statistics of their connections are complete."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        for number, process in enumerate(self._processes):
            try:
                code = process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                raise WorkerEndedError(
                    f"worker {number} did not end within {STOP_SECONDS:g} s of SIGTERM: "
                    f"{self._log(number)}"
                ) from None
            if code != 0:
                raise WorkerEndedError(
                    f"worker {number} ended with exit code {code}: {self._log(number)}"
                )

    def _spawn(self, number: int) -> None:
        with (self._directory / str(number)).open("wb") as log:
            self._processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "outbox.cli.worker", self._app],
                    env=self._environment,
                    cwd=self._directory,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            )

    def _wait_for_all(self, statement: LiteralString) -> None:
        deadline = time.monotonic() + START_SECONDS
        with self._database.connect(name="bench look") as connection:
            while value(connection, statement) < self._count:
                self.check()
                if time.monotonic() > deadline:
                    raise WorkerEndedError(
                        f"{self._count} workers are not ready within {START_SECONDS:g} s: "
                        f"{self._log(0)}"
                    )
                time.sleep(0.01)

    def _log(self, number: int) -> str:
        return (self._directory / str(number)).read_text(errors="replace")[-2000:]

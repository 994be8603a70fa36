"""The demo's workers: started, replaced when they die, stopped."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from steps.demo import leftovers
from steps.demo.errors import DemoError
from steps.demo.programs import last_lines

WORKERS = 2
MOST_FAILURES = 3
"""A worker that ends by itself again and again has a reason that another one will meet too."""
STOP_SECONDS = 20.0


@dataclass
class Worker:
    """A worker process and its log."""

    number: int
    process: subprocess.Popen[bytes]
    log: Path

    def __str__(self) -> str:
        return f"worker {self.number} (pid {self.process.pid})"


class Crew:
    """Worker processes; a context manager that leaves none of them running.

    Args:
        environment: their environment variables.
        directory: where they run and write their logs, ``worker-N.log``.
        apps: what they run.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        directory: Path,
        apps: Sequence[str] = ("steps.payment:app",),
    ) -> None:
        self._environment = environment
        self._directory = directory
        self._apps = apps
        self._workers: list[Worker] = []
        self._started = 0
        self._failures = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            with contextlib.suppress(ProcessLookupError):
                worker.process.kill()
            worker.process.wait()

    def start(self, count: int = WORKERS) -> list[Worker]:
        """Start workers, and return them."""
        return [self._start_one() for _ in range(count)]

    def mend(self) -> Iterator[str]:
        """Put a new worker in the place of each one that has ended; what happened, in words.

        Raises:
            DemoError: they end by themselves; the message has their last words.
        """
        ended = [worker for worker in self._workers if worker.process.poll() is not None]
        failed = [worker for worker in ended if worker.process.returncode > 0]
        self._failures += len(failed)
        if failed and (self._failures >= MOST_FAILURES or len(ended) == len(self._workers)):
            raise DemoError(
                "\n".join(
                    f"{worker} {_ending(worker.process.returncode)}; the end of {worker.log}:\n"
                    f"{last_lines(worker.log)}"
                    for worker in failed
                )
            )
        for worker in ended:
            self._workers.remove(worker)
            ending = _ending(worker.process.returncode)
            yield f"{worker} {ending}; {self._start_one()} takes its place"

    def stop(self) -> Iterator[str]:
        """Ask all to end, and wait; who does not end in order is killed, and named."""
        for worker in self._workers:
            with contextlib.suppress(ProcessLookupError):
                worker.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for worker in self._workers:
            try:
                code = worker.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
                yield f"{worker} did not end within {STOP_SECONDS:.0f} s and was killed"
            else:
                if code != 0:
                    yield f"{worker} {_ending(code)} instead of ending in order"
        self._workers.clear()

    def _start_one(self) -> Worker:
        self._started += 1
        log = self._directory / f"worker-{self._started}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "outbox.cli.worker", *self._apps],
                env=self._environment,
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # An interrupt at the terminal is the demo's to deal with.
                start_new_session=True,
            )
        leftovers.remember(self._directory, process.pid)
        worker = Worker(self._started, process, log)
        self._workers.append(worker)
        return worker


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was killed by {signal.Signals(-code).name}"

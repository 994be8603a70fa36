"""A sandbox in a process of its own, for the demo and the tests: started, asked, killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import httpx

from steps.sandbox.faults import Fault, Operation


class SandboxProcess:
    """Runs ``python -m steps.sandbox``; a context manager that stops it at the end.

    Args:
        store: the file it remembers in; start another process on it to continue.
        port: 0 takes a free one.
        log: a file for its error output; by default that of this process.
        options: further command line options, e.g. ``"--key-ttl", "2"``.

    Raises:
        RuntimeError: it ended before it accepted connections.
    """

    def __init__(self, store: Path, *options: str, port: int = 0, log: Path | None = None) -> None:
        errors = None if log is None else log.open("ab")
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "steps.sandbox",
                "--store",
                store,
                "--port",
                str(port),
                *options,
            ],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            # The package is found from here, wherever the caller stands.
            cwd=Path(__file__).parents[2],
            # An interrupt at the terminal is the caller's to deal with.
            start_new_session=True,
        )
        if errors is not None:
            errors.close()
        self.pid = self._process.pid
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError(
                f"the sandbox ended with exit code {self._process.wait()} before it listened; "
                "its error output says why"
            )
        self.port = int(self.url.rpartition(":")[2])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> int:
        """End it in order; again is harmless.

        Returns:
            Its exit code, 0 when it ended well.
        """
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it on the spot, as a crash would."""
        self._end(signal.SIGKILL)

    def effects(self) -> list[dict[str, Any]]:
        """Every effect that happened: ``operation`` (create, authorize, decline or cancel),
        ``intent``, ``saga_id``, ``idempotency_key`` and ``at``, in order."""
        return self._read("/sandbox/effects")

    def intents(self) -> list[dict[str, Any]]:
        """Every intent as the provider would show it, newest first."""
        return self._read("/sandbox/intents")

    def add_fault(
        self,
        operation: Operation,
        fault: Fault,
        times: int | None = 1,
        saga_id: str | None = None,
    ) -> None:
        """Trouble the next requests of an operation, before what payments ask for themselves.

        Args:
            operation: which requests.
            fault: what goes wrong.
            times: for how many of them; ``None`` means all.
            saga_id: only of this saga; a list belongs to none.
        """
        rule = {"operation": operation, "fault": fault, "times": times, "saga_id": saga_id}
        httpx.post(f"{self.url}/sandbox/faults", json=rule).raise_for_status()

    def clear_faults(self) -> None:
        """Forget what ``add_fault`` said."""
        httpx.delete(f"{self.url}/sandbox/faults").raise_for_status()

    def _read(self, path: str) -> list[dict[str, Any]]:
        answer = httpx.get(f"{self.url}{path}", timeout=30)
        answer.raise_for_status()
        documents: list[dict[str, Any]] = answer.json()
        return documents

    def _end(self, number: signal.Signals) -> int:
        if self._process.poll() is None:
            self._process.send_signal(number)
        code = self._process.wait(timeout=30)
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code

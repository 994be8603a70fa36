"""A sandbox in a process of its own, for the demo and the tests: started, asked, killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from steps.sandbox.faults import Fault, Operation
from steps.server import ServerProcess


class SandboxProcess(ServerProcess):
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
        super().__init__(
            "steps.sandbox", "--store", str(store), "--port", str(port), *options, log=log
        )

    def effects(self) -> list[dict[str, Any]]:
        """Every effect that happened: ``operation`` (create, authorize, decline or cancel),
        ``intent``, ``saga_id``, ``idempotency_key`` and ``at``, in order."""
        return self._read("/sandbox/effects")

    def intents(self) -> list[dict[str, Any]]:
        """Every intent as the provider would show it, newest first."""
        return self._read("/sandbox/intents")

    def bookings(self) -> list[dict[str, Any]]:
        """Every booking at a partner, oldest first: ``service``, ``reference``, ``item``, ``id``,
        ``status`` (booked or cancelled)."""
        return self._read("/sandbox/bookings")

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

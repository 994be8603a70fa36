"""How far the sagas are: a live bar on a terminal, else a line every few seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Self

import psycopg
from psycopg import sql
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from steps.demo.programs import SCHEMA

LINE_SECONDS = 3.0
COUNTS = sql.SQL("select status, count(*) from {} where type = %s group by status").format(
    sql.Identifier(SCHEMA, "overview")
)


@dataclass(frozen=True, slots=True)
class Counts:
    """How many sagas ended in which way so far."""

    completed: int
    failed: int
    suspended: int

    @property
    def settled(self) -> int:
        """How many no worker will move on."""
        return self.completed + self.failed + self.suspended

    def __str__(self) -> str:
        return f"{self.completed} completed, {self.failed} undone, {self.suspended} suspended"


def read_counts(connection: psycopg.Connection[Any], saga_type: str) -> Counts:
    """Count the sagas of a type by their status."""
    counts = dict(connection.execute(COUNTS, [saga_type]).fetchall())
    return Counts(*(counts.get(name, 0) for name in ("COMPLETED", "FAILED", "SUSPENDED")))


class Display:
    """Shows counts as they change; a context manager.

    Args:
        console: where.
        total: how many sagas there are.
    """

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._began = time.monotonic()
        self._said = self._began
        self._progress = Progress(
            BarColumn(bar_width=18),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=total)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._console.print(line, style="yellow", soft_wrap=True)

    def show(self, counts: Counts) -> None:
        """Bring the display up to date."""
        self._progress.update(self._task, completed=counts.settled, description=str(counts))
        now = time.monotonic()
        if not self._console.is_terminal and now - self._said >= LINE_SECONDS:
            self._said = now
            self._console.print(
                f"{now - self._began:3.0f} s: {counts.settled} of {self._total}: {counts}"
            )

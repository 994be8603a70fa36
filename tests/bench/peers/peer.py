"""What the file of a peer gives to the benchmark."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Protocol
from uuid import UUID

import psycopg

from steps.model import Payment

SagaId = UUID | str
READY = 0x5A6A_9EE2
"""The advisory lock that each worker shares while it is up."""
DSN = "PEER_DSN"
"""The environment variable that names a worker's database."""


class Starter(Protocol):
    """Starts payments as the peer's users do."""

    def __call__(self, payments: Sequence[Payment]) -> list[SagaId]:
        """Starts them in one transaction, committed when this returns; what the peer calls them."""


@dataclass(frozen=True)
class Peer:
    """One peer. Its worker processes run the module that has it.

    Attributes:
        name: what it is called.
        module: where it is.
        distribution: its package on the index.
        earlier: the low end of the sagas a second that it was found to reach before.
        sagas: how many a drain takes, in a full and in a quick run.
        install: makes its tables in a database that has the ledger.
        starter: opens what starts payments in a database.
        completed: a query of the sagas that came to their right end: ``id`` and ``ended_at``.
        results: a query of the results of steps that are kept, a row each.
        leftovers: a query of the jobs or workflows that are not done, a row each.
        processes: how many workers.
    """

    name: str
    module: str
    distribution: str
    earlier: float
    sagas: tuple[int, int]
    install: Callable[[str], None]
    starter: Callable[[str], AbstractContextManager[Starter]]
    completed: str
    results: str
    leftovers: str
    processes: int = 2

    @property
    def views(self) -> dict[str, str]:
        """The queries, by the names of the views that they are measured through."""
        return {
            "peer_completed": self.completed,
            "peer_result": self.results,
            "peer_leftover": self.leftovers,
        }

    @property
    def title(self) -> str:
        """The name and the release that is installed."""
        return f"{self.name} {version(self.distribution)}"


def worker_dsn() -> str:
    """The database that a worker process was told to work in, not on its command line, where
    everybody could read a password."""
    return os.environ[DSN]


def is_up(dsn: str) -> psycopg.Connection[tuple[object, ...]]:
    """Says that this worker is about to claim, for as long as the returned connection is open."""
    connection = psycopg.connect(dsn, autocommit=True, application_name=f"peer {os.getpid()}")
    connection.execute("select pg_advisory_lock_shared(%s)", [READY])
    return connection

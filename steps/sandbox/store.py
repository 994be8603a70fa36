"""What the sandbox remembers, in one SQLite file that outlives its process.

Every call is synchronous and takes well under a millisecond, so the server calls it straight from
its event loop: requests are served one after another, and no lock is needed.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steps.sandbox.answers import Answer
from steps.sandbox.faults import Fault, Operation

SCHEMA = """
CREATE TABLE IF NOT EXISTS intent (
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    id       TEXT NOT NULL UNIQUE,
    saga_id  TEXT,
    customer TEXT,
    created  REAL NOT NULL,
    document TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS intent_by_customer ON intent (customer, number);
CREATE INDEX IF NOT EXISTS intent_by_saga ON intent (saga_id, number);
CREATE TABLE IF NOT EXISTS answer (
    key         TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    status      INTEGER NOT NULL,
    text        TEXT NOT NULL,
    stored_at   REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS effect (
    number          INTEGER PRIMARY KEY AUTOINCREMENT,
    operation       TEXT NOT NULL,
    intent          TEXT NOT NULL,
    saga_id         TEXT,
    idempotency_key TEXT,
    at              REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS request_count (
    saga_id   TEXT NOT NULL,
    operation TEXT NOT NULL,
    requests  INTEGER NOT NULL,
    PRIMARY KEY (saga_id, operation)
);
CREATE TABLE IF NOT EXISTS fault_rule (
    number    INTEGER PRIMARY KEY AUTOINCREMENT,
    operation TEXT NOT NULL,
    fault     TEXT NOT NULL,
    remaining INTEGER,
    saga_id   TEXT
);
"""


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """The answer that a key got, and to what."""

    fingerprint: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class IntentFilter:
    """Which intents a list asks for; times in seconds since 1970."""

    limit: int
    customer: str | None = None
    saga_id: str | None = None
    starting_after: str | None = None
    created_from: float | None = None
    created_before: float | None = None


class Store:
    """Intents, answers by idempotency key, effects and faults.

    Args:
        path: the SQLite file; created when absent.
        key_lifetime: how long an idempotency key is remembered, in seconds.
    """

    def __init__(self, path: Path, key_lifetime: float) -> None:
        self._key_lifetime = key_lifetime
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        # NORMAL survives the death of this process; only a power cut could lose the last commits.
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.executescript(SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what the block writes, or nothing of it."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    def insert_intent(self, document: dict[str, Any], saga_id: str | None) -> None:
        """Add a new intent; its ``id``, ``customer`` and ``created`` are read from the document."""
        self._database.execute(
            "INSERT INTO intent (id, saga_id, customer, created, document) VALUES (?, ?, ?, ?, ?)",
            (
                document["id"],
                saga_id,
                document["customer"],
                time.time(),
                json.dumps(document),
            ),
        )

    def update_intent(self, document: dict[str, Any]) -> None:
        """Replace the stored intent of the same id."""
        self._database.execute(
            "UPDATE intent SET document = ? WHERE id = ?", (json.dumps(document), document["id"])
        )

    def intent(self, intent_id: str) -> dict[str, Any] | None:
        """The intent as it stands, or ``None`` when there is none of this id."""
        row = self._database.execute(
            "SELECT document FROM intent WHERE id = ?", (intent_id,)
        ).fetchone()
        return None if row is None else json.loads(row[0])

    def intents(self, wanted: IntentFilter) -> list[dict[str, Any]]:
        """Intents that match, newest first, at most ``wanted.limit`` of them."""
        rows = self._database.execute(
            """
            SELECT document FROM intent
            WHERE (:customer IS NULL OR customer = :customer)
              AND (:saga_id IS NULL OR saga_id = :saga_id)
              AND (:created_from IS NULL OR created >= :created_from)
              AND (:created_before IS NULL OR created < :created_before)
              AND (:starting_after IS NULL
                   OR number < (SELECT number FROM intent WHERE id = :starting_after))
            ORDER BY number DESC LIMIT :limit
            """,
            {
                "limit": wanted.limit,
                "customer": wanted.customer,
                "saga_id": wanted.saga_id,
                "starting_after": wanted.starting_after,
                "created_from": wanted.created_from,
                "created_before": wanted.created_before,
            },
        )
        return [json.loads(document) for (document,) in rows]

    def stored_answer(self, key: str) -> StoredAnswer | None:
        """What the key was answered, or ``None`` when it is new or forgotten."""
        row = self._database.execute(
            "SELECT fingerprint, status, text FROM answer WHERE key = ? AND stored_at > ?",
            (key, time.time() - self._key_lifetime),
        ).fetchone()
        return None if row is None else StoredAnswer(row[0], Answer(row[1], row[2]))

    def store_answer(self, key: str, fingerprint: str, answer: Answer) -> None:
        """Remember what the key was answered; one that was forgotten is overwritten."""
        self._database.execute(
            "INSERT OR REPLACE INTO answer VALUES (?, ?, ?, ?, ?)",
            (key, fingerprint, answer.status, answer.text, time.time()),
        )

    def record_effect(
        self, operation: str, intent_id: str, saga_id: str | None, key: str | None
    ) -> None:
        """Append one effect that really happened."""
        self._database.execute(
            "INSERT INTO effect (operation, intent, saga_id, idempotency_key, at)"
            " VALUES (?, ?, ?, ?, ?)",
            (operation, intent_id, saga_id, key, time.time()),
        )

    def effects(self) -> list[dict[str, Any]]:
        """Every effect, in the order in which they happened."""
        names = ("operation", "intent", "saga_id", "idempotency_key", "at")
        rows = self._database.execute(
            "SELECT operation, intent, saga_id, idempotency_key, at FROM effect ORDER BY number"
        )
        return [dict(zip(names, row, strict=True)) for row in rows]

    def count_request(self, saga_id: str, operation: Operation) -> int:
        """Count one more request of this saga and operation, and return how many there were."""
        row = self._database.execute(
            "INSERT INTO request_count VALUES (?, ?, 1)"
            " ON CONFLICT DO UPDATE SET requests = requests + 1 RETURNING requests",
            (saga_id, operation.value),
        ).fetchone()
        return int(row[0])

    def add_fault(
        self, operation: Operation, fault: Fault, times: int | None, saga_id: str | None
    ) -> None:
        """Trouble the next ``times`` requests (``None``: all), of one saga or of any."""
        self._database.execute(
            "INSERT INTO fault_rule (operation, fault, remaining, saga_id) VALUES (?, ?, ?, ?)",
            (operation.value, fault.value, times, saga_id),
        )

    def clear_faults(self) -> None:
        """Forget every rule that ``add_fault`` made."""
        self._database.execute("DELETE FROM fault_rule")

    def take_fault(self, operation: Operation, saga_id: str | None) -> Fault | None:
        """The oldest rule of ``add_fault`` that applies; one use of it is spent."""
        row = self._database.execute(
            "SELECT number, fault FROM fault_rule WHERE operation = ?"
            " AND (saga_id IS NULL OR saga_id = ?) AND (remaining IS NULL OR remaining > 0)"
            " ORDER BY number LIMIT 1",
            (operation.value, saga_id),
        ).fetchone()
        if row is None:
            return None
        self._database.execute(
            "UPDATE fault_rule SET remaining = remaining - 1 WHERE number = ?", (row[0],)
        )
        return Fault(row[1])

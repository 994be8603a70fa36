"""What the partners remember: bookings, what a customer's requests are troubled with, and who is to
be called back. In the same file as the payments, by the same rules."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCHEMA = """
CREATE TABLE IF NOT EXISTS booking (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT NOT NULL UNIQUE,
    service     TEXT NOT NULL,
    reference   TEXT NOT NULL,
    item        TEXT NOT NULL,
    status      TEXT NOT NULL CHECK (status IN ('booked', 'cancelled')),
    key         TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    UNIQUE (service, key)
);
CREATE INDEX IF NOT EXISTS booking_by_reference ON booking (service, reference);
CREATE TABLE IF NOT EXISTS trouble (
    service   TEXT NOT NULL,
    reference TEXT NOT NULL,
    rules     TEXT NOT NULL,
    PRIMARY KEY (service, reference)
);
CREATE TABLE IF NOT EXISTS partner_request (
    service   TEXT NOT NULL,
    reference TEXT NOT NULL,
    operation TEXT NOT NULL,
    requests  INTEGER NOT NULL,
    PRIMARY KEY (service, reference, operation)
);
CREATE TABLE IF NOT EXISTS callback (
    delivery TEXT PRIMARY KEY,
    url      TEXT NOT NULL,
    booking  TEXT NOT NULL,
    body     TEXT NOT NULL,
    due      REAL NOT NULL,
    times    INTEGER NOT NULL,
    failures INTEGER NOT NULL DEFAULT 0
);
"""
COLUMNS = "id, service, reference, item, status"
MOST_FAILURES = 20


@dataclass(frozen=True, slots=True)
class Callback:
    """Somebody to be told of a booking."""

    delivery: str
    url: str
    body: bytes


class PartnerStore:
    """Bookings in an SQLite file.

    Args:
        path: the file; created when absent.
        callback_delay: seconds from a booking to its callback.
    """

    def __init__(self, path: Path, callback_delay: float) -> None:
        self._delay = callback_delay
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.row_factory = sqlite3.Row
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.executescript(SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def add(
        self,
        service: str,
        reference: str,
        item: str,
        key: str,
        fingerprint: str,
        callback_url: str | None,
    ) -> dict[str, Any]:
        """Add a booking, and remember to call back."""
        booking = f"bk_{uuid.uuid4().hex[:20]}"
        self._database.execute("BEGIN IMMEDIATE")
        try:
            cursor = self._database.execute(
                "INSERT INTO booking (id, service, reference, item, status, key, fingerprint)"
                " VALUES (?, ?, ?, ?, 'booked', ?, ?)",
                (booking, service, reference, item, key, fingerprint),
            )
            if callback_url is not None:
                told = {
                    "type": "delivered",
                    "data": {"reference": reference, "booking": booking, "at": time.time()},
                }
                # Webhooks come at least once: every second one comes twice.
                times = 1 + (cursor.lastrowid or 0) % 2
                self._database.execute(
                    "INSERT INTO callback (delivery, url, booking, body, due, times)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    (
                        f"msg_{uuid.uuid4().hex}",
                        callback_url,
                        booking,
                        json.dumps(told),
                        time.time() + self._delay,
                        times,
                    ),
                )
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")
        return self._select("id = ?", booking)[0]

    def by_key(self, service: str, key: str) -> tuple[dict[str, Any], str] | None:
        """The booking that was made under a key, and what it was asked for with."""
        row = self._database.execute(
            f"SELECT {COLUMNS}, fingerprint FROM booking WHERE service = ? AND key = ?",  # noqa: S608
            (service, key),
        ).fetchone()
        if row is None:
            return None
        found = dict(row)
        return found, found.pop("fingerprint")

    def by_reference(self, service: str, reference: str) -> list[dict[str, Any]]:
        """Bookings of a reference, oldest first."""
        return self._select("service = ? AND reference = ?", service, reference)

    def by_id(self, service: str, booking: str) -> dict[str, Any] | None:
        """The booking of an id, or ``None``."""
        found = self._select("service = ? AND id = ?", service, booking)
        return found[0] if found else None

    def all(self) -> list[dict[str, Any]]:
        """Every booking, oldest first."""
        return self._select("true")

    def cancel(self, booking: str) -> None:
        """Cancel a booking; nobody is called back for it any more."""
        self._database.execute("UPDATE booking SET status = 'cancelled' WHERE id = ?", (booking,))
        self._database.execute("DELETE FROM callback WHERE booking = ?", (booking,))

    def remember_trouble(self, service: str, reference: str, rules: str) -> None:
        """What later requests of this reference are troubled with."""
        self._database.execute(
            "INSERT OR IGNORE INTO trouble VALUES (?, ?, ?)", (service, reference, rules)
        )

    def trouble(self, service: str, reference: str) -> str:
        """What a reference's requests are troubled with, as the rules were written."""
        row = self._database.execute(
            "SELECT rules FROM trouble WHERE service = ? AND reference = ?", (service, reference)
        ).fetchone()
        return "" if row is None else str(row[0])

    def count_request(self, service: str, reference: str, operation: str) -> int:
        """Count one more request, and return how many there were."""
        row = self._database.execute(
            "INSERT INTO partner_request VALUES (?, ?, ?, 1)"
            " ON CONFLICT DO UPDATE SET requests = requests + 1 RETURNING requests",
            (service, reference, operation),
        ).fetchone()
        return int(row[0])

    def due_callbacks(self, limit: int = 20) -> list[Callback]:
        """Callbacks that are due, oldest first."""
        rows = self._database.execute(
            "SELECT delivery, url, body FROM callback WHERE due <= ? ORDER BY due LIMIT ?",
            (time.time(), limit),
        ).fetchall()
        return [Callback(row["delivery"], row["url"], row["body"].encode()) for row in rows]

    def called_back(self, delivery: str, answered: bool) -> None:
        """Forget a callback, or call again soon; after many failures it is given up."""
        if answered:
            self._database.execute(
                "UPDATE callback SET times = times - 1, due = ? WHERE delivery = ?",
                (time.time() + 0.1, delivery),
            )
            self._database.execute("DELETE FROM callback WHERE times <= 0")
            return
        self._database.execute(
            "UPDATE callback SET failures = failures + 1, due = ? + min(0.1 * (1 << failures), 5)"
            " WHERE delivery = ?",
            (time.time(), delivery),
        )
        self._database.execute("DELETE FROM callback WHERE failures >= ?", (MOST_FAILURES,))

    def _select(self, condition: str, *parameters: str) -> list[dict[str, Any]]:
        rows = self._database.execute(
            f"SELECT {COLUMNS} FROM booking WHERE {condition} ORDER BY number",  # noqa: S608
            parameters,
        )
        return [dict(row) for row in rows]

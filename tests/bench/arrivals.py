"""Open-loop arrivals: sent when they are due, whether or not those before have been answered."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from uuid import UUID

from outbox import Client
from tests.bench import load
from tests.bench.sagas import payment
from tests.bench.server import SCHEMA, Connection, Database

LOOK_EVERY = 0.0005
LONGEST = 60.0


def arrive(rate: float, seconds: float, work: Callable[[float], None]) -> None:
    """Calls ``work`` with the instant at which it was due, on `time.perf_counter`'s clock, for each
    arrival. When one takes longer than the next is away, that one is late, and its lateness counts:
    nothing is left out because the system was slow (coordinated omission)."""
    began = time.perf_counter()
    for number in range(round(rate * seconds)):
        due = began + number / rate
        time.sleep(max(0.0, due - time.perf_counter()))
        work(due)


class Payments:
    """Starts payments, one commit each, and measures until they are seen as COMPLETED.

    Args:
        database: where workers run.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._client = Client(SCHEMA)
        self._due: dict[UUID, float] = {}
        self._seen: list[float] = []
        self._changed = threading.Condition()
        self._all_sent = False

    def run(self, rate: float, seconds: float) -> list[float]:
        """Seconds from each payment's due arrival until its completion was visible to another
        connection, which looks every half a millisecond.

        Raises:
            TimeoutError: payments are not completed within a minute of the last arrival.
        """
        self._seen, self._all_sent = [], False
        watcher = threading.Thread(target=self._watch)
        watcher.start()
        try:
            with self._database.connect(name="bench start") as connection:
                arrive(rate, seconds, lambda due: self._start(connection, due))
        finally:
            with self._changed:
                self._all_sent = True
                self._changed.notify()
            watcher.join()
        if self._due:
            raise TimeoutError(f"{len(self._due)} payments are not completed in {LONGEST:g} s")
        return self._seen

    def _start(self, connection: Connection, due: float) -> None:
        ((key, payment_input),) = load.payments(1)
        started = self._client.start(connection, payment, payment_input, key=key)
        with self._changed:
            self._due[started.id] = due
            self._changed.notify()

    def _watch(self) -> None:
        last_change = time.perf_counter()
        with self._database.connect(name="bench watch") as connection:
            while time.perf_counter() - last_change < LONGEST:
                with self._changed:
                    if not self._due:
                        if self._all_sent:
                            return
                        self._changed.wait(LONGEST)
                        last_change = time.perf_counter()
                    waiting = list(self._due)
                rows = connection.execute(
                    "select id from instance where id = any(%s) and status = 'COMPLETED'",
                    [waiting],
                ).fetchall()
                now = time.perf_counter()
                with self._changed:
                    for (saga,) in rows:
                        self._seen.append(now - self._due.pop(saga))
                        last_change = now
                time.sleep(LOOK_EVERY)

"""Draining a backlog of payments on a peer, and timing payments that arrive one by one."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import LiteralString

from steps.model import Payment
from tests.bench import load
from tests.bench.arrivals import LOOK_EVERY, arrive
from tests.bench.peers.peer import Peer, SagaId, Starter
from tests.bench.peers.workers import Workers
from tests.bench.server import Connection, Database, Server, value
from tests.bench.verdict import WrongResultError

LONGEST = 60.0
"""Seconds without an end of any saga after which the peer is given up."""
WARM_UP = 1.0
LOOK_FOR_THE_END_EVERY = 0.2


@dataclass(frozen=True)
class Measured:
    """What an engine came to: sagas a second of a drained backlog, seconds of each arrival."""

    sagas_per_second: float
    latencies: list[float]


def measure(server: Server, peer: Peer, *, sagas: int, rate: float, seconds: float) -> Measured:
    """Lets a peer's workers drain a backlog, then sends them payments at a rate.

    The workers are up, and have done a few payments, before the backlog appears in one commit. The
    clock starts when that commit has returned, and stops at the last saga's end by the database's
    clock.

    Raises:
        WrongResultError: not all came to their right end.
        WorkerEndedError: a worker ended.
        TimeoutError: nothing came to its end for `LONGEST`.
    """
    with server.database() as database, database.connect(name="bench look") as connection:
        peer.install(database.dsn)
        for view, query in peer.views.items():
            connection.execute(f"create view public.{view} as {query}".encode())
        with peer.starter(database.dsn) as start, Workers(peer, database) as workers:
            arrivals = Arrivals(start, database)
            done = len(arrivals.run(rate, WARM_UP))
            start(_payments(sagas))
            began = value(connection, "select clock_timestamp()")
            done += sagas
            _wait(connection, workers, "select count(*) from peer_completed", done)
            ended = value(connection, "select max(ended_at) from peer_completed")
            latencies = arrivals.run(rate, seconds)
            done += len(latencies)
            # A queue acknowledges the last jobs after their transactions.
            _wait(connection, workers, "select -count(*) from peer_leftover", 0)
        _require_all_completed(peer, connection, done)
    return Measured(sagas / (ended - began).total_seconds(), latencies)


class Arrivals:
    """Starts payments, one commit each, and times them until they are seen as completed.

    Args:
        start: the peer's.
        database: where its workers run.
    """

    def __init__(self, start: Starter, database: Database) -> None:
        self._start = start
        self._database = database
        self._due: dict[SagaId, float] = {}
        self._changed = threading.Condition()
        self._all_sent = False

    def run(self, rate: float, seconds: float) -> list[float]:
        """As `tests.bench.arrivals.Payments.run`, whose clock and looks are the same.

        Raises:
            TimeoutError: payments are not completed within a minute of the last change.
        """
        seen: list[float] = []
        self._all_sent = False
        watcher = threading.Thread(target=self._watch, args=[seen])
        watcher.start()
        try:
            arrive(rate, seconds, self._send)
        finally:
            with self._changed:
                self._all_sent = True
                self._changed.notify()
            watcher.join()
        if self._due:
            raise TimeoutError(f"{len(self._due)} payments are not completed in {LONGEST:g} s")
        return seen

    def _send(self, due: float) -> None:
        (saga,) = self._start(_payments(1))
        with self._changed:
            self._due[saga] = due
            self._changed.notify()

    def _watch(self, seen: list[float]) -> None:
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
                    "select id from peer_completed where id = any(%s)", [waiting]
                ).fetchall()
                now = time.perf_counter()
                with self._changed:
                    for (saga,) in rows:
                        seen.append(now - self._due.pop(saga))
                        last_change = now
                time.sleep(LOOK_EVERY)


def _payments(number: int) -> list[Payment]:
    return [payment for _, payment in load.payments(number)]


def _wait(connection: Connection, workers: Workers, statement: LiteralString, wanted: int) -> None:
    """Returns when a number that should grow has become what is wanted."""
    found, deadline = value(connection, statement), time.monotonic() + LONGEST
    while found < wanted:
        workers.check()
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"{statement}: {found} of {wanted}, no change in {LONGEST:g} s: {workers.log(0)}"
            )
        time.sleep(LOOK_FOR_THE_END_EVERY)
        before, found = found, value(connection, statement)
        if found != before:
            deadline = time.monotonic() + LONGEST


def _require_all_completed(peer: Peer, connection: Connection, sagas: int) -> None:
    wanted = {"completed": sagas, "results": 4 * sagas, "debits": sagas, "debited sagas": sagas}
    row = connection.execute(
        "select (select count(*) from peer_completed), (select count(*) from peer_result), "
        "count(*), count(distinct e.saga_id) "
        "from entry e join peer_completed c on c.id::text = e.saga_id::text "
        "where e.direction = 'debit'"
    ).fetchone()
    assert row is not None, "a select of counts returned no row"
    found = dict(zip(wanted, row, strict=True))
    if found != wanted:
        raise WrongResultError(f"{peer.name}: expected {wanted}, found {found}")

"""Draining a backlog of payments with worker processes, and all that it costs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from outbox import Saga
from tests.bench import load
from tests.bench.server import Database, Server, value
from tests.bench.usage import Log, ServerProcess, hot_share, row_writes
from tests.bench.verdict import require_all_completed
from tests.bench.workers import UNDER_LOAD, Crew

LONGEST = 600.0
LOOK_EVERY = 0.05


@dataclass(frozen=True)
class Drained:
    """One drain. Bytes are without full-page images unless they say otherwise; row writes are those
    of the start too."""

    sagas: int
    transitions: int
    seconds: float
    worker_cpu: float
    server_cpu: float
    start_log_bytes: float
    log_bytes: float
    log_bytes_with_images: float
    row_writes: Mapping[str, int]
    hot_share: float

    @property
    def sagas_per_second(self) -> float:
        """Sagas that ended in a second."""
        return self.sagas / self.seconds

    @property
    def steps_per_second(self) -> float:
        """Transitions in a second, those of undo steps and of refusals too."""
        return self.transitions / self.seconds


def drain(
    server: Server, *, sagas: int, workers: int, saga: Saga[Any], failing: bool = False
) -> Drained:
    """Starts sagas in bulk, lets workers drain them, and checks that all ended as they had to.

    The clock starts when the workers, already up, may connect and claim, and stops at the last
    saga's end by the database's clock.

    Raises:
        WrongResultError: a saga came to a wrong end, or the audit found something.
        WorkerEndedError: a worker ended.
    """
    with server.database() as database:
        return drain_in(database, sagas=sagas, workers=workers, saga=saga, failing=failing)


def drain_in(
    database: Database, *, sagas: int, workers: int, saga: Saga[Any], failing: bool = False
) -> Drained:
    """As ``drain``, in a database that is there and has no sagas."""
    with database.connect() as connection:
        log = Log(connection)
        load.start(connection, sagas, saga=saga, failing=failing)
        _, start_log = log.bytes_written()
        process = ServerProcess(connection)
        # An idle connection reports its writes late; a worker does at its end.
        connection.execute("select pg_stat_force_next_flush()")
        with Crew(database, workers, environment=UNDER_LOAD) as crew:
            log = Log(connection)
            cpu, server_cpu = crew.cpu_seconds(), process.cpu_seconds()
            began = value(connection, "select clock_timestamp()")
            crew.go()
            _wait_until_drained(database, crew)
            worker_cpu = crew.cpu_seconds() - cpu
            server_cpu = process.cpu_seconds() - server_cpu
            crew.stop()
        with_images, without = log.bytes_written()
        ended = value(connection, "select max(ended_at) from instance")
        failed = int(value(connection, "select count(*) from instance where status = 'FAILED'"))
        transitions = int(value(connection, "select count(*) from transition"))
        require_all_completed(database, sagas - failed, failed)
        return Drained(
            sagas=sagas,
            transitions=transitions,
            seconds=(ended - began).total_seconds(),
            worker_cpu=worker_cpu,
            server_cpu=server_cpu,
            start_log_bytes=start_log,
            log_bytes=without,
            log_bytes_with_images=with_images,
            row_writes=row_writes(database),
            hot_share=hot_share(database),
        )


def _wait_until_drained(database: Database, crew: Crew) -> None:
    deadline = time.monotonic() + LONGEST
    with database.connect(name="bench look") as connection:
        while value(connection, "select exists (select from outbox)"):
            crew.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"the workers have not drained their sagas in {LONGEST:g} s")
            time.sleep(LOOK_EVERY)

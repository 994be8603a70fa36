"""The state of the whole installation in one value: what a live screen shows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from outbox.viewer import fleet, interventions, rates, sagas
from outbox.viewer.fleet import Finding, StuckRow, WorkerRow
from outbox.viewer.interventions import Intervention
from outbox.viewer.rates import Throughput
from outbox.viewer.read import Reader, at_one_moment, read
from outbox.viewer.sagas import Count

FEW = 8


@dataclass(frozen=True, slots=True)
class Queue:
    """A type's commands: ``due`` and taken by nobody, ``claimed``, ``delayed`` (a retry, a planned
    start), ``waiting`` for an event or let in by no limit, ``suspended``. ``lag``: how long the
    oldest due one has been; None: nothing is due."""

    type: str
    due: int
    claimed: int
    delayed: int
    waiting: int
    suspended: int
    lag: timedelta | None


@dataclass(frozen=True, slots=True)
class Pulse:
    """One look at everything. ``stuck`` and ``suspended`` are the first few; ``throughput`` is of
    ``window``; ``findings`` is None where they were not asked for."""

    at: datetime
    window: timedelta
    live: list[Count]
    queues: list[Queue]
    throughput: list[Throughput]
    workers: list[WorkerRow]
    stuck: list[StuckRow]
    suspended: list[Intervention]
    findings: list[Finding] | None

    def total(self, status: str | None = None) -> int:
        """How many sagas live, with a status where one is given."""
        return sum(count.sagas for count in self.live if status in (None, count.status))


@dataclass(frozen=True, slots=True)
class _Now:
    clock: datetime


async def queues(connection: Reader, schema: str) -> list[Queue]:
    """How many commands of each type are due, claimed, delayed, waiting or suspended."""
    return await read(connection, schema, Queue, "{}.queues order by type")


async def pulse(
    connection: Reader,
    schema: str,
    window: timedelta = timedelta(seconds=10),
    *,
    with_health: bool = True,
) -> Pulse:
    """Looks at everything at one moment.

    Args:
        window: of the throughput.
        with_health: also look what is wrong, which costs more than the rest.
    """
    async with at_one_moment(connection):
        (now,) = await read(connection, schema, _Now, "{}.clock()")
        waiting = await interventions.interventions(connection, schema, limit=FEW)
        return Pulse(
            at=now.clock,
            window=window,
            live=await sagas.live_counts(connection, schema),
            queues=await queues(connection, schema),
            throughput=await rates.throughput(connection, schema, window),
            workers=await fleet.workers(connection, schema),
            stuck=await fleet.stuck(connection, schema, FEW),
            suspended=waiting.rows,
            findings=await fleet.health(connection, schema) if with_health else None,
        )

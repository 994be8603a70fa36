"""How well and how fast sagas go: completion, latency, errors, throughput, of a window of time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from outbox.viewer.read import Reader, read

DAY, HOUR = timedelta(days=1), timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Completion:
    """What became of the sagas of a type that were started in a bucket of time. ``live`` counts the
    suspended ones too; ``rate`` is the completed part of those that completed, failed or are
    suspended, None where there are none."""

    type: str
    started_at: datetime
    started: int
    completed: int
    failed: int
    suspended: int
    live: int
    rate: Decimal | None


@dataclass(frozen=True, slots=True)
class Latency:
    """How long the attempts of a step took, in seconds. ``kind`` is action, compensation or
    reconcile; ``errors`` are attempts that met one, ``retries`` those that another one followed."""

    type: str
    step: str
    kind: str
    attempts: int
    p50: float | None
    p95: float | None
    p99: float | None
    errors: int
    retries: int


@dataclass(frozen=True, slots=True)
class LatencyAt:
    """As ``Latency``, of one bucket of time."""

    at: datetime
    type: str
    step: str
    kind: str
    attempts: int
    p50: float | None
    p95: float | None
    p99: float | None
    errors: int
    retries: int


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Errors alike: how often, in how many sagas, since when; ``example`` met it last."""

    type: str
    step: str
    kind: str
    error: str | None
    message: str | None
    count: int
    sagas: int
    first_seen: datetime
    last_seen: datetime
    example: UUID


@dataclass(frozen=True, slots=True)
class Throughput:
    """What a type did within a window: sagas started and ended, transitions, and of those the
    attempts that are made again or met an error."""

    type: str
    started: int
    completed: int
    failed: int
    transitions: int
    retries: int
    errors: int


async def completion(
    connection: Reader,
    schema: str,
    window: timedelta = DAY,
    type: str | None = None,
    bucket: timedelta = HOUR,
) -> list[Completion]:
    """What became of the sagas that were started within a window, by type and bucket of their
    start, in that order. Buckets in which none was started are left out."""
    return await read(
        connection, schema, Completion, "{}.completion_rate_since(%s, %s, %s)",
        (window, type, bucket),
    )  # fmt: skip


async def latency(
    connection: Reader, schema: str, window: timedelta = HOUR, type: str | None = None
) -> list[Latency]:
    """How long each step took within a window, by type, step and kind."""
    return await read(connection, schema, Latency, "{}.latency_since(%s, %s)", (window, type))


async def latency_over(
    connection: Reader, schema: str, window: timedelta, bucket: timedelta, type: str | None = None
) -> list[LatencyAt]:
    """As ``latency``, for each bucket of time as well, the oldest first."""
    return await read(
        connection, schema, LatencyAt, "{}.latency_over(%s, %s, %s)", (window, bucket, type)
    )


async def errors(
    connection: Reader,
    schema: str,
    window: timedelta = DAY,
    type: str | None = None,
    limit: int = 100,
) -> list[ErrorGroup]:
    """The errors that steps met within a window, those alike together, the most frequent first."""
    return await read(
        connection, schema, ErrorGroup, "{}.errors_since(%s, %s) limit %s", (window, type, limit)
    )


async def throughput(
    connection: Reader, schema: str, window: timedelta = timedelta(seconds=10)
) -> list[Throughput]:
    """What each type did within a short window."""
    return await read(connection, schema, Throughput, "{}.throughput_since(%s)", (window,))

"""What recurs, on pgqueuer's scheduler: once across all workers, whichever of them it is."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

import psycopg
from pgqueuer.core.sm import SchedulerManager
from pgqueuer.domain.errors import PgqException
from pgqueuer.domain.models import Schedule

from outbox.relay.cron import ticks_after
from outbox.store.connect import Connection, connect
from outbox.store.functions import Functions
from outbox.store.patience import Patience
from outbox.store.pgqueuer_schema import pgqueuer_queries
from outbox.telemetry import Telemetry

_BATCH = 500
_PAUSE = 0.05
_EVERY_MINUTE = "* * * * *"
# A tick that is dealt with so much later was missed.
_MISSED = timedelta(minutes=2)
_LONG = timedelta(days=2)
# More are caught up by the next look.
_TICKS = 1000


class Schedules:
    """Looks for stuck and suspended sagas, removes old finished ones, and starts recurring ones.

    Args:
        dsn: a connection of its own; pgqueuer's scheduler keeps it.
        alerts: cron expression, UTC.
        retention: cron expression, UTC.
        after_alerts: called when alerts were looked for: they are events.
        patience: looks after statements that have no answer for long.
    """

    def __init__(
        self,
        dsn: str,
        functions: Functions,
        telemetry: Telemetry,
        *,
        alerts: str,
        retention: str,
        after_alerts: Callable[[], None] = lambda: None,
        patience: Patience | None = None,
    ) -> None:
        self._dsn = dsn
        self._patience = patience
        self._functions = functions
        self._telemetry = telemetry
        self._alerts = alerts
        self._retention = retention
        self._after_alerts = after_alerts

    async def run(self) -> None:
        """Runs until cancelled; connects anew, with backoff, when the database was away."""
        wait = 0.2
        while True:
            try:
                connection = await connect(
                    self._dsn,
                    prepared_statements=False,
                    name="outbox schedules",
                    patience=self._patience,
                )
                async with connection:
                    wait = 0.2
                    await self._serve(connection)
            except Exception as error:  # noqa: BLE001 - sagas go on without it
                known = isinstance(error, psycopg.Error | PgqException)
                self._telemetry.emit(
                    "schedules_interrupted",
                    "warning" if known else "error",
                    error=_reason(error),
                    retry_in=wait,
                )
            await asyncio.sleep(wait * random.uniform(0.5, 1))
            wait = min(wait * 2, 10.0)

    async def raise_alerts(self, connection: Connection) -> None:
        """An event for each saga that is newly stuck or suspended, and for each type that newly
        lags or completes too seldom."""
        for alert in await self._functions.raise_alerts(connection):
            self._telemetry.emit(
                "alert",
                "error",
                alert=alert.kind,
                saga_id=str(alert.saga_id),
                type=alert.type,
                step=alert.step,
                attempt=alert.attempt,
                message=alert.message,
            )
        for of_type in await self._functions.raise_type_alerts(connection):
            self._telemetry.emit(
                "alert",
                "error",
                alert=of_type.kind,
                type=of_type.type,
                message=of_type.message,
            )
        self._after_alerts()

    async def purge(self, connection: Connection) -> int:
        """Removes what is older than the retention, a small batch at a time; returns how many."""
        removed = 0
        after: UUID | None = None
        while True:
            count, after = await self._functions.purge(connection, _BATCH, after)
            removed += count
            if after is None:
                break
            await asyncio.sleep(_PAUSE)
        if removed:
            self._telemetry.emit("sagas_purged", count=removed)
        return removed

    async def start_recurring(self, connection: Connection) -> int:
        """Starts what the schedules' ticks are due for; returns how many sagas."""
        total = 0
        for due in await self._functions.due_schedules(connection):
            try:
                ticks, until, upcoming = choose_ticks(
                    due.cron, due.zone, due.catch_up, due.last_tick, due.now
                )
            except (ValueError, LookupError) as error:
                self._telemetry.emit(
                    "schedule_failed", "error", schedule=due.name, message=str(error)
                )
                continue
            started, problem = await self._functions.start_ticks(
                connection, due, ticks, until, upcoming
            )
            total += started
            if problem is not None:
                self._telemetry.emit("schedule_failed", "error", schedule=due.name, message=problem)
            elif started:
                self._telemetry.emit("schedule_started", schedule=due.name, count=started)
        return total

    async def _serve(self, connection: Connection) -> None:
        manager = SchedulerManager(pgqueuer_queries(connection, self._functions.schema))

        @manager.schedule("outbox_alerts", self._alerts, clean_old=True)
        async def look_for_trouble(_schedule: Schedule) -> None:
            await self.raise_alerts(connection)

        @manager.schedule("outbox_retention", self._retention, clean_old=True)
        async def remove_old(_schedule: Schedule) -> None:
            await self.purge(connection)

        @manager.schedule("outbox_schedules", _EVERY_MINUTE, clean_old=True)
        async def start_recurring(_schedule: Schedule) -> None:
            await self.start_recurring(connection)

        try:
            await manager.run()
        finally:
            manager.shutdown.set()


def _reason(error: Exception) -> str:
    """Why it was interrupted. pgqueuer names a command of its own, which knows nothing of our
    schema."""
    reason = str(error).strip() or type(error).__name__
    return re.sub(r"please run 'pgq \w+'", "please run bin/saga migrate", reason)


def choose_ticks(
    cron: str, zone: str, catch_up: str, since: datetime, now: datetime
) -> tuple[list[datetime], datetime, datetime | None]:
    """Which ticks of a schedule are to be started.

    Args:
        catch_up: of the ticks that are long past, ``none`` is started, the ``last``, or ``all``.
        since: up to then all have been dealt with.

    Returns:
        The ticks; up to when all have been dealt with then; and the next one that is due.
    """
    if (
        catch_up != "all"
        and now - since > _LONG
        and next(ticks_after(cron, zone, now - _LONG), now + _LONG) <= now
    ):
        since = now - _LONG  # the last one is not to be found by counting through years
    coming = ticks_after(cron, zone, since)
    ticks: list[datetime] = []
    upcoming = next(coming, None)
    until = now
    while upcoming is not None and upcoming <= now:
        if catch_up == "all" and len(ticks) == _TICKS:
            until = ticks[-1]
            break
        ticks = [*ticks, upcoming] if catch_up == "all" else [upcoming]
        upcoming = next(coming, None)
    if catch_up == "none":
        ticks = [tick for tick in ticks if tick > now - _MISSED]
    return ticks, until, upcoming

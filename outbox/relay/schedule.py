"""What recurs, on pgqueuer's scheduler: once across all workers, whichever of them it is."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from uuid import UUID

import psycopg
from croniter import croniter
from pgqueuer.core.sm import SchedulerManager
from pgqueuer.domain.models import Schedule

from outbox.errors import ConfigurationError
from outbox.store.connect import Connection, connect
from outbox.store.functions import Functions
from outbox.store.pgqueuer_schema import pgqueuer_queries
from outbox.telemetry import Telemetry

_BATCH = 500
_PAUSE = 0.05


def check_cron(name: str, expression: str) -> None:
    """Refuses what is not a cron expression.

    Raises:
        ConfigurationError: naming the setting.
    """
    if not croniter.is_valid(expression):
        raise ConfigurationError(
            f"{name}: {expression!r} is not a cron expression (minute hour day month weekday)"
        )


class Schedules:
    """Looks for stuck and suspended sagas, and removes old finished ones.

    Args:
        dsn: a connection of its own; pgqueuer's scheduler keeps it.
        alerts: cron expression, UTC.
        retention: cron expression, UTC.
        after_alerts: called when alerts were looked for: they are events.
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
    ) -> None:
        self._dsn = dsn
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
                    self._dsn, prepared_statements=False, name="outbox schedules"
                )
                async with connection:
                    wait = 0.2
                    await self._serve(connection)
            except psycopg.Error as error:
                self._telemetry.emit(
                    "schedules_interrupted", "warning", error=str(error).strip(), retry_in=wait
                )
            await asyncio.sleep(wait * random.uniform(0.5, 1))
            wait = min(wait * 2, 10.0)

    async def raise_alerts(self, connection: Connection) -> None:
        """An event for each saga that is newly stuck or suspended."""
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

    async def _serve(self, connection: Connection) -> None:
        manager = SchedulerManager(pgqueuer_queries(connection, self._functions.schema))

        @manager.schedule("outbox_alerts", self._alerts, clean_old=True)
        async def look_for_trouble(_schedule: Schedule) -> None:
            await self.raise_alerts(connection)

        @manager.schedule("outbox_retention", self._retention, clean_old=True)
        async def remove_old(_schedule: Schedule) -> None:
            await self.purge(connection)

        try:
            await manager.run()
        finally:
            manager.shutdown.set()

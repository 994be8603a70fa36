"""What all pages share: settings, the database, who may come in, how pages are made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from outbox.client import Client
from outbox.operator import Operator
from outbox.rules import Rules
from outbox.settings import Settings
from outbox.store.acting import acting_as
from outbox.store.connect import complete_dsn, configure, make_patience
from outbox.store.patience import PatientConnection
from outbox.telemetry import Telemetry
from outbox.viewer import fleet, sagas
from outbox.viewer.fleet import Finding
from outbox.viewer.sagas import Count, Counts
from outbox.web.accounts import User, load_accounts
from outbox.web.cached import Cached
from outbox.web.live import Live
from outbox.web.mask import Masking
from outbox.web.reach import Reach
from outbox.web.rendering import Rendering
from outbox.web.session import Sessions
from outbox.web.settings import WebSettings
from outbox.web.throttle import Throttle

_WINDOW = 300.0  # seconds in which wrong passwords count
_WAIT = 3.0  # seconds for a connection
_SILENT = 12.0  # seconds without an answer, though the server has ten: it may be another one now
_SNAPSHOT = (
    "set transaction isolation level repeatable read read only; set local statement_timeout = '10s'"
)
ENDED = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Nav:
    """What stands beside the links to pages: how many sagas wait for a person, how many findings
    there are, and how bad the worst is ("" without any)."""

    interventions: int
    findings: int
    worst: str


class Site:
    """Made once a process; ``opened`` is its life.

    Args:
        settings: of all programs.
        web: of the web server.
        dsn: where the database is.
        telemetry: is told who did what, and of trouble.

    Raises:
        ConfigurationError: a setting is missing or wrong.
    """

    def __init__(
        self, settings: Settings, web: WebSettings, dsn: str, telemetry: Telemetry
    ) -> None:
        self.settings, self.web, self.telemetry = settings, web, telemetry
        self.schema = settings.schema_name
        self.accounts = load_accounts(web)
        self.sessions = Sessions(web.signing_key, web.session_seconds, self.accounts)
        self.rendering = Rendering(web.root_path, Masking(web.masked_names))
        self.client, self.operator = Client(self.schema), Operator(self.schema)
        self.rules = Rules(self.schema)
        self.by_user = Throttle(web.login_attempts, _WINDOW)
        self.by_address = Throttle(web.login_attempts * 4, _WINDOW)
        self.reach = Reach(dsn, self.schema, telemetry)
        # Half of the connections are left to those who ask for a page.
        self.live = Live(
            self.reading, web.streams, telemetry, max(1, web.connections // 2), self.reach.doubt
        )
        self._patience = make_patience(dsn, telemetry, _SILENT)
        self._pool = AsyncConnectionPool(
            complete_dsn(dsn, application_name="outbox-web"),
            connection_class=PatientConnection,
            min_size=1,
            max_size=web.connections,
            open=False,
            timeout=_WAIT,
            configure=self._configure,
            check=AsyncConnectionPool.check_connection,
            reconnect_timeout=0,
            kwargs={
                "autocommit": True,
                "prepare_threshold": 1 if settings.prepared_statements else None,
            },
        )
        schema = self.schema
        self._living = Cached(lambda connection: sagas.live_counts(connection, schema), 0.9)
        self._health = Cached(self._findings, 15.0)
        self._ended = Cached(self._ended_lately, 5.0)

    async def _findings(self, connection: AsyncConnection[Any]) -> list[Finding]:
        found = await fleet.health(connection, self.schema)
        return [finding for finding in found if finding.severity != "info"]

    async def _ended_lately(self, connection: AsyncConnection[Any]) -> list[Count]:
        return await sagas.ended(connection, self.schema, ENDED)

    async def _configure(self, connection: PatientConnection) -> None:
        await configure(connection)
        connection.patience = self._patience

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """The site with its connections, and without them at the end."""
        await self._pool.open(wait=False)
        looking = asyncio.create_task(self.reach.run(), name="reach")
        async with self._patience:
            try:
                yield
            finally:
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)
                await self.live.close()
                await self._pool.close()

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[AsyncConnection[Any]]:
        """A connection in autocommit."""
        async with self._pool.connection() as connection:
            yield connection

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection[Any]]:
        """A connection that sees one moment, and changes nothing."""
        async with self.lend() as connection, connection.transaction():
            await connection.execute(_SNAPSHOT, prepare=False)
            yield connection

    @asynccontextmanager
    async def acting(self, user: User) -> AsyncIterator[AsyncConnection[Any]]:
        """A connection in a transaction in which this user acts."""
        async with self.lend() as connection, acting_as(connection, user.name):
            await connection.execute("set local statement_timeout = '60s'", prepare=False)
            yield connection

    async def nav(self, connection: AsyncConnection[Any]) -> Nav:
        """What stands in the navigation."""
        counts = await self.living(connection)
        # No page waits for what stands beside a link.
        findings = await self._health.get(connection, 1.0) or []
        worst = findings[0].severity if findings else ""
        return Nav(counts.living("SUSPENDED"), len(findings), worst)

    async def living(self, connection: AsyncConnection[Any]) -> Counts:
        """How many sagas live, by type and status."""
        return Counts(await self._living.get(connection) or [], [], ENDED)

    async def ended(self, connection: AsyncConnection[Any], within: float) -> list[Count] | None:
        """How many sagas have ended lately (``ENDED``), by type and status; None where that could
        not be found out within so many seconds."""
        return await self._ended.get(connection, within)

"""What all pages share: settings, the database, who may come in, how pages are made."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from outbox.client import Client
from outbox.operator import Operator
from outbox.rules import Rules
from outbox.settings import Settings
from outbox.store.acting import acting_as
from outbox.store.connect import complete_dsn, configure
from outbox.telemetry import Telemetry
from outbox.viewer import fleet, sagas
from outbox.web.accounts import User, load_accounts
from outbox.web.live import Live
from outbox.web.mask import Masking
from outbox.web.rendering import Rendering
from outbox.web.session import Sessions
from outbox.web.settings import WebSettings
from outbox.web.throttle import Throttle

_WINDOW = 300.0  # seconds in which wrong passwords count
_WAIT = 3.0  # seconds for a connection
_SNAPSHOT = (
    "set transaction isolation level repeatable read read only; set local statement_timeout = '10s'"
)
_NAV_LASTS, _HEALTH_LASTS = 2.0, 15.0


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
        self.live = Live(self.reading, web.streams, telemetry)
        self._pool: AsyncConnectionPool[AsyncConnection[Any]] = AsyncConnectionPool(
            complete_dsn(dsn, application_name="outbox-web"),
            min_size=1,
            max_size=web.connections,
            open=False,
            timeout=_WAIT,
            configure=configure,
            check=AsyncConnectionPool.check_connection,
            reconnect_timeout=0,
            kwargs={
                "autocommit": True,
                "prepare_threshold": 1 if settings.prepared_statements else None,
            },
        )
        self._nav: Nav | None = None
        self._nav_until = self._health_until = 0.0

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """The site with its connections, and without them at the end."""
        await self._pool.open(wait=False)
        try:
            yield
        finally:
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
        """What stands in the navigation, read every few seconds at most."""
        now = time.monotonic()
        known = self._nav
        if known is not None and now < self._nav_until:
            return known
        counts = await sagas.live_counts(connection, self.schema)
        suspended = sum(c.sagas for c in counts if c.status == "SUSPENDED")
        if known is None or now >= self._health_until:
            findings = [
                f for f in await fleet.health(connection, self.schema) if f.severity != "info"
            ]
            self._health_until = now + _HEALTH_LASTS
            self._nav = Nav(suspended, len(findings), findings[0].severity if findings else "")
        else:
            self._nav = Nav(suspended, known.findings, known.worst)
        self._nav_until = now + _NAV_LASTS
        return self._nav

"""``GET /metrics``: what the database says of all sagas and workers, for Prometheus."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import psycopg
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from outbox.metrics import DatabaseMetrics, GaugeReader, registry
from outbox.web.api.endpoint import Guard
from outbox.web.api.problem import ProblemError, answer
from outbox.web.site import Site

_KEPT = 5.0  # seconds


class Scrapes:
    """Answers scrapes: all those of five seconds with what was read once, and one at a time, so
    that no scraper can load the database or take the threads from the rest.

    Args:
        metrics: reads; called in a thread.
        clock: seconds, of which only differences count.
    """

    def __init__(
        self, metrics: CollectorRegistry, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._metrics, self._clock = metrics, clock
        self._lock = asyncio.Lock()
        self._text, self._until = b"", float("-inf")

    async def text(self) -> bytes:
        """What Prometheus reads."""
        async with self._lock:
            if self._clock() >= self._until:
                self._text = await asyncio.to_thread(generate_latest, self._metrics)
                self._until = self._clock() + _KEPT
            return self._text


class MetricsEndpoint:
    """The endpoint, open or for whoever has a token, as the settings say.

    Args:
        site: of whose database.
        guard: knows the tokens.
        dsn: the database.
    """

    def __init__(self, site: Site, guard: Guard, dsn: str) -> None:
        self._site, self._guard = site, guard
        self._reader = GaugeReader(dsn, site.schema)
        self._scrapes = Scrapes(registry([DatabaseMetrics(self._reader)]))

    async def scrape(self, request: Request) -> Response:
        """Answers a scrape."""
        try:
            if self._site.web.metrics == "token":
                self._guard.check(request, "viewer")
        except ProblemError as problem:
            return answer(problem, self._site.web.root_path, request.url.path)
        return Response(
            await self._scrapes.text(),
            media_type=CONTENT_TYPE_LATEST,
            headers={"Cache-Control": "no-store"},
        )

    def close(self) -> None:
        """Closes its connection."""
        try:
            self._reader.close()
        except psycopg.Error:  # it is gone already
            return

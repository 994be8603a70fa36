"""``/admin/live/…``: what changed on a page, as server-sent events (the HTML standard, 9.2)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import orjson
from markupsafe import Markup
from psycopg import AsyncConnection
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.responses import Response

from outbox.errors import NotFoundError
from outbox.web.live import LEAVING, Fragments, Topic
from outbox.web.pages import fleet, interventions, listing, saga, types
from outbox.web.site import Site
from outbox.web.visit import Visit

VIEWS: dict[str, Callable[[Visit], Topic]] = {
    "sagas": listing.topic,
    "saga": saga.topic,
    "interventions": interventions.topic,
    "types": types.list_topic,
    "type": types.topic,
    "health": fleet.health_topic,
    "workers": fleet.workers_topic,
    "schedules": fleet.schedules_topic,
}

_LOOK_AGAIN = 15.0  # seconds after which it is looked whether the session still holds


async def live(visit: Visit) -> Response:
    """A stream of fragments: first all, then those that change. It ends with the session."""
    view = VIEWS.get(visit.path("view"))
    if view is None:
        raise NotFoundError(f"no page is called {visit.path('view')!r}")
    site = visit.site
    if not site.live.has_room:
        return Response("too many pages are kept up to date at once", 503)
    topics = [_nav_topic(site), view(visit)]
    leaving = anyio.Event()
    return EventSourceResponse(
        _stream(visit, topics, leaving),
        ping=15,
        shutdown_event=leaving,
        shutdown_grace_period=LEAVING,
        headers={"X-Accel-Buffering": "no", "Cache-Control": "no-store"},
    )


async def _stream(
    visit: Visit, topics: list[Topic], leaving: anyio.Event
) -> AsyncIterator[ServerSentEvent]:
    session = visit.session
    cookie = visit.request.cookies.get("outbox_session")
    ends = time.time() + 3600 if session is None else session.until
    async with visit.site.live.watching(topics, leaving) as watcher:
        while (left := ends - time.time()) > 0:
            changed: Fragments | None = {}
            with contextlib.suppress(TimeoutError):
                changed = await asyncio.wait_for(anext(watcher, None), min(left, _LOOK_AGAIN))
            # Of a page on which something always happens, too.
            if session is not None and visit.site.sessions.read(cookie) is None:
                return
            if changed is None:
                return
            if changed:
                yield ServerSentEvent(orjson.dumps(changed).decode(), event="fragments")


def _nav_topic(site: Site) -> Topic:
    async def load(connection: AsyncConnection[Any]) -> dict[str, Markup]:
        nav = await site.nav(connection)
        return {
            "nav-interventions": site.rendering.render("nav/interventions.html", nav=nav),
            "nav-health": site.rendering.render("nav/health.html", nav=nav),
        }

    return Topic(("nav",), load, every=2.0)

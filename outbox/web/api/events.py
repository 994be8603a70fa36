"""``GET /api/sagas/{id}/events``: a saga's transitions as they happen, as server-sent events (the
HTML standard, 9.2)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import anyio
from psycopg import AsyncConnection
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.responses import Response

from outbox.errors import NotFoundError
from outbox.viewer import saga
from outbox.web.api.operation import Answer, Operation
from outbox.web.api.problem import RETRY_AFTER, ProblemError
from outbox.web.api.request import ApiRequest
from outbox.web.api.shown import as_json, moments_of, shown
from outbox.web.live import LEAVING, Fragments, Topic
from outbox.web.site import Site

_END, _GONE = "end", "gone"
_PING = 15  # seconds


def operations() -> list[Operation]:
    """The route."""
    return [
        Operation(
            "GET",
            "/api/sagas/{id}/events",
            follow,
            "viewer",
            "Follow a saga",
            {
                200: Answer(
                    "First what has happened, then what happens. Each `transition` is a moment of "
                    "the timeline, its `id` the seq; `end` is the saga as it ended, and the last.",
                    media_type="text/event-stream",
                ),
                204: Answer("It has ended, and `Last-Event-ID` has seen all: do not come back."),
            },
            tag="sagas",
            description="It ends when the saga has, or when the saga is removed, its retention "
            "over. After a break, go on where it was by `Last-Event-ID`, as an "
            "EventSource does by itself.",
            path_parameters={"id": "the id of the saga"},
            streams=True,
            problems=(404,),
        )
    ]


async def follow(call: ApiRequest) -> Response:
    """The stream."""
    saga_id, seen = call.saga_id(), _last_event(call)
    site = call.site
    async with site.reading() as connection:
        now = await saga.overview(connection, site.schema, saga_id)
        if now.ended_at is not None and seen >= 0:
            later = await saga.timeline(connection, site.schema, saga_id, seen)
            if not later:
                return Response(status_code=204)
    if not site.live.has_room:
        raise ProblemError(
            "unavailable",
            f"{site.web.streams} streams are open, as many as there may be (OUTBOX_WEB_STREAMS)",
            {"Retry-After": str(RETRY_AFTER)},
        )
    leaving = anyio.Event()
    return EventSourceResponse(
        _stream(site, call.root, saga_id, seen, leaving),
        ping=_PING,
        shutdown_event=leaving,
        shutdown_grace_period=LEAVING,
        headers={"X-Accel-Buffering": "no", "Cache-Control": "no-store"},
    )


async def _stream(
    site: Site, root: str, saga_id: UUID, seen: int, leaving: anyio.Event
) -> AsyncIterator[ServerSentEvent]:
    loader = _Loader(site, root, saga_id)
    topic = Topic(("api", "saga", saga_id), loader.load, every=0.5, kept=loader.kept)
    async with site.live.watching([topic], leaving) as watcher:
        async for changed in watcher:
            for seq in sorted(int(name) for name in changed if name not in (_END, _GONE)):
                if seq > seen:
                    yield ServerSentEvent(changed[str(seq)], event="transition", id=str(seq))
                    seen = seq
            if _END in changed:
                yield ServerSentEvent(changed[_END], event=_END)
                return
            if _GONE in changed:
                return


class _Loader:
    """Reads a saga's transitions, each once, for all who follow it."""

    def __init__(self, site: Site, root: str, saga_id: UUID) -> None:
        self._site, self._root, self._saga_id = site, root, saga_id
        self._seen = -1

    async def load(self, connection: AsyncConnection[Any]) -> Fragments:
        """What came after what was kept; of a saga that retention has removed, that it is gone."""
        site = self._site
        masking = site.rendering.masking
        try:
            now = await saga.overview(connection, site.schema, self._saga_id)
        except NotFoundError:
            return {_GONE: ""}
        history = await saga.timeline(connection, site.schema, self._saga_id, self._seen)
        found: dict[str, str] = {}
        for one in moments_of(history, masking):
            # The first of a seq is the transition; that a saga was rerun stands at its last.
            found.setdefault(str(one.seq), as_json(one).decode())
        if now.ended_at is not None:
            found[_END] = as_json(shown(now, self._root, masking)).decode()
        return found

    def kept(self, fragments: Fragments) -> None:
        """These need not be read again."""
        numbers = (int(name) for name in fragments if name not in (_END, _GONE))
        self._seen = max([self._seen, *numbers])


def _last_event(call: ApiRequest) -> int:
    """The seq that the follower has seen last; -1: none yet."""
    given = call.request.headers.get("last-event-id", "").strip()
    if not given:
        return -1
    if not (given.isascii() and given.isdecimal() and len(given) <= 9):
        raise ProblemError(
            "malformed", f"Last-Event-ID {given[:80]!r} is no seq of a transition: leave it out"
        )
    return int(given)

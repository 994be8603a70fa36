"""``/admin/sagas/{id}``: one saga whole, and the acts that apply to it now."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from markupsafe import Markup
from psycopg import AsyncConnection
from starlette.responses import Response

from outbox.operator import Resolution, Undoing
from outbox.viewer import interventions, saga
from outbox.viewer.saga import Moment, Whole
from outbox.web.charts.diagram import diagram
from outbox.web.charts.gantt import gantt
from outbox.web.charts.progress import progress_of
from outbox.web.live import Fragments, Topic
from outbox.web.site import Site
from outbox.web.visit import Visit

_SETTLES = 5.0  # seconds after which all of a saga is read again, though it has not moved


@dataclass(frozen=True)
class Refusal:
    """An act that was refused: why, and what happened since its operator looked; ``form`` is what
    was filled in."""

    act: str
    why: str
    since: Sequence[Moment] = ()
    form: Mapping[str, str] = field(default_factory=dict)


async def saga_page(visit: Visit) -> Response:
    """The page."""
    return await show(visit)


async def show(visit: Visit, refusal: Refusal | None = None, status: int = 200) -> Response:
    """The page, perhaps with why an act was refused."""
    site = visit.site
    async with site.reading() as connection:
        visit.nav = await site.nav(connection)
        whole = await saga.whole(connection, site.schema, visit.saga_id)
        about = await _about_acts(visit, connection, whole)
    return await visit.page(
        "saga.html",
        status,
        whole=whole,
        saga=whole.overview,
        fragments=fragments_of(site, whole),
        refusal=refusal,
        live=visit.url(f"/live/saga/{whole.overview.saga_id}"),
        **about,
    )


async def saga_acts(visit: Visit) -> Response:
    """The acts alone, for a page whose saga has moved on."""
    async with visit.site.reading() as connection:
        whole = await saga.whole(connection, visit.site.schema, visit.saga_id)
        about = await _about_acts(visit, connection, whole)
    return visit.fragment("saga/acts.html", whole=whole, saga=whole.overview, refusal=None, **about)


def topic(visit: Visit) -> Topic:
    """The page's live parts."""
    saga_id = visit.saga_id
    loader = _Loader(visit.site, saga_id)
    return Topic(("saga", saga_id), loader.load, kept=loader.kept)


class _Loader:
    """Reads where a saga stands, and all of it only where that has changed."""

    def __init__(self, site: Site, saga_id: UUID) -> None:
        self._site, self._saga_id = site, saga_id
        self._seen: object = None
        self._until = 0.0
        self._read: tuple[object, float] = (None, 0.0)

    async def load(self, connection: AsyncConnection[Any]) -> dict[str, Markup]:
        """The parts of the page; none where all is as it was."""
        schema = self._site.schema
        now = await saga.overview(connection, schema, self._saga_id)
        seen = (now.status, now.seq, now.worker, now.attempts, now.due_at, now.paused, now.reason)
        if seen == self._seen and time.monotonic() < self._until:
            return {}
        whole = await saga.whole(connection, schema, self._saga_id)
        self._read = (seen, time.monotonic() + _SETTLES)
        return fragments_of(self._site, whole)

    def kept(self, _fragments: Fragments) -> None:
        """What was read need not be read again."""
        self._seen, self._until = self._read


def fragments_of(site: Site, whole: Whole) -> dict[str, Markup]:
    """The parts of the page that change."""
    draw = site.rendering
    seen = whole.overview
    progress = progress_of(whole.timeline, whole.lines)
    final = seen.status if seen.ended_at is not None else None
    values = {"whole": whole, "saga": seen, "version": version_of(whole)}
    return {
        "saga-head": draw.render("saga/head.html", **values),
        "saga-now": draw.render("saga/now.html", **values),
        "saga-diagram": diagram(whole.plan, progress, final),
        "saga-gantt": gantt(
            whole.timeline, whole.lines, datetime.now(UTC), draw.masking.mask_text, whole.plan
        ),
        "saga-timeline": draw.render("saga/timeline.html", **values),
        "saga-data": draw.render("saga/data.html", **values),
        "saga-more": draw.render("saga/more.html", **values),
    }


def version_of(whole: Whole) -> str:
    """What changes with the acts that apply and with the seq that they carry."""
    said = repr((whole.overview.status, whole.overview.seq, whole.acts_that_apply))
    return hashlib.sha256(said.encode()).hexdigest()[:16]


async def _about_acts(
    visit: Visit, connection: AsyncConnection[Any], whole: Whole
) -> dict[str, Any]:
    """What the acts' forms need beside the saga; of a viewer nothing."""
    undoing: list[Undoing] = []
    before: list[Resolution] = []
    if visit.may("operator") and any(
        act.applies and act.name in ("cancel", "abort") for act in whole.acts_that_apply
    ):
        undoing = await visit.site.operator.explain_abort(connection, whole.overview.saga_id)
    suspended = next((line for line in whole.lines if line.standing == "suspended"), None)
    if suspended is not None:
        before = await interventions.past_resolutions(
            connection, visit.site.schema, step=suspended.step, limit=5
        )
    results = {
        name: moment.result
        for name, moment in _results(whole.timeline)
        if moment.result is not None
    }
    return {"undoing": undoing, "before": before, "results": results, "version": version_of(whole)}


def _results(history: Sequence[Moment]) -> list[tuple[str, Moment]]:
    return [
        (moment.step if moment.element is None else f"{moment.step}/{moment.element}", moment)
        for moment in history
        if moment.step is not None
        and moment.outcome == "done"
        and moment.kind in ("action", "reconcile")
    ]

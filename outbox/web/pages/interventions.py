"""``/admin/interventions``: what waits for a person, acts on many, what was done before."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from markupsafe import Markup
from psycopg import AsyncConnection
from starlette.responses import Response

from outbox.durations import duration_of
from outbox.errors import InputError
from outbox.operator import Acted, ManyAct
from outbox.viewer import interventions
from outbox.web.forms import json_of
from outbox.web.live import Topic
from outbox.web.site import Site
from outbox.web.visit import Visit

_ROWS = 50
_MOST = 1000
BULK_ACTS: dict[ManyAct, str] = {
    "retry": "run what failed again",
    "skip": "take the step as done",
    "resolve": "close, as settled by hand",
    "cancel": "undo, unless past the pivot",
    "abort": "undo everything, past the pivot too",
    "pause_saga": "begin nothing more",
}


class _ChangedError(Exception):
    """What an act came to is not what its operator had seen; everything is taken back."""

    def __init__(self, rows: list[Acted]) -> None:
        super().__init__("the sagas are not those that were shown")
        self.rows = rows


async def queue(visit: Visit) -> Response:
    """The page."""
    site = visit.site
    async with site.reading() as connection:
        visit.nav = await site.nav(connection)
        fragments = await _load(site, connection, visit.query)
    names = ("type", "step", "error", "after")
    return await visit.page(
        "interventions.html",
        fragments=fragments,
        chosen=_chosen(visit.query),
        acts=BULK_ACTS,
        live=visit.url("/live/interventions", **{n: visit.query.get(n) for n in names}),
    )


def topic(visit: Visit) -> Topic:
    """The page's live parts."""
    site = visit.site
    query = {k: v for k, v in visit.query.items() if k in ("type", "step", "error", "after")}
    return Topic(
        ("interventions", tuple(sorted(query.items()))),
        lambda connection: _load(site, connection, query),
        every=2.0,
    )


async def _load(site: Site, connection: AsyncConnection[Any], query: Any) -> dict[str, Markup]:
    chosen = _chosen(query)
    groups = await interventions.groups(connection, site.schema)
    page = await interventions.interventions(
        connection,
        site.schema,
        type=chosen["type"],
        step=chosen["step"],
        error=chosen["error"],
        after=_place(query.get("after")),
        limit=_ROWS,
    )
    after = None if page.next is None else f"{page.next[0].isoformat()}~{page.next[1]}"
    values = {
        "groups": groups,
        "page": page,
        "chosen": chosen,
        "after": after,
        "is_later": "after" in query,
    }
    return {
        "intervention-groups": site.rendering.render("interventions/groups.html", **values),
        "intervention-rows": site.rendering.render("interventions/rows.html", **values),
    }


async def plan(visit: Visit) -> Response:
    """The dry run: what an act would do to each saga, changing nothing."""
    rows = await _perform(visit, dry_run=True)
    return await _show_plan(visit, rows)


async def perform(visit: Visit) -> Response:
    """Does to each saga what the dry run has shown; if it would do anything else, nothing."""
    try:
        rows = await _perform(visit, dry_run=False)
    except _ChangedError as changed:
        return await _show_plan(
            visit,
            changed.rows,
            409,
            "What was found has changed since you looked, so nothing was done. Look at it again.",
        )
    act = visit.wanted("act")
    done = [row for row in rows if row.problem is None]
    visit.site.telemetry.emit(
        "operator_act", act=act, actor=visit.user.name if visit.user else "", sagas=len(done)
    )
    return await visit.page("interventions/done.html", rows=rows, act=act, done=done)


async def past(visit: Visit) -> Response:
    """What people did about suspended sagas before."""
    query = {name: visit.query.get(name, "").strip() or None for name in ("words", "step", "error")}
    if any("\0" in (value or "") for value in query.values()):
        raise InputError("a search cannot hold the character NUL")
    async with visit.site.reading() as connection:
        visit.nav = await visit.site.nav(connection)
        found = await interventions.past_resolutions(
            connection,
            visit.site.schema,
            step=query["step"],
            error=query["error"],
            words=query["words"],
        )
    return await visit.page("interventions/past.html", found=found, query=query)


async def _perform(visit: Visit, *, dry_run: bool) -> list[Acted]:
    act = visit.wanted("act")
    if act not in BULK_ACTS:
        raise InputError(f"there is no act {act!r} on many: there are {', '.join(BULK_ACTS)}")
    note = visit.wanted("note")
    arguments: dict[str, Any] = {}
    if act == "resolve":
        arguments["status"] = visit.wanted("resolve_as")
    if act == "skip" and (given := visit.field("result")) is not None:
        try:
            arguments["result"] = json_of(given)
        except ValueError as error:
            raise InputError(f"the result is malformed JSON: {error}") from None
    older = visit.field("older_than")
    assert visit.user is not None
    async with visit.site.acting(visit.user) as connection:
        rows = await visit.site.operator.act_many(
            connection,
            act,
            note,
            type=visit.field("type"),
            step=visit.field("step"),
            error=visit.field("error"),
            older_than=None if older is None else duration_of(older),
            status="SUSPENDED",
            limit=_MOST,
            dry_run=dry_run,
            arguments=arguments,
        )
        if not dry_run and _digest(rows) != visit.field("digest"):
            raise _ChangedError(rows)
    return rows


async def _show_plan(
    visit: Visit, rows: list[Acted], status: int = 200, problem: str | None = None
) -> Response:
    kept = {k: v for k, v in visit.form.items() if k not in ("csrf", "digest") and v}
    fine = [row for row in rows if row.problem is None]
    return await visit.page(
        "interventions/plan.html",
        status,
        rows=rows,
        fine=fine,
        kept=kept,
        digest=_digest(rows),
        act=visit.wanted("act"),
        acts=BULK_ACTS,
        problem=problem,
        most=_MOST,
    )


def _digest(rows: Sequence[Acted]) -> str:
    said = sorted(f"{row.saga_id} {row.step} {row.outcome} {row.problem is None}" for row in rows)
    return hashlib.sha256("\n".join(said).encode()).hexdigest()


def _chosen(query: Any) -> dict[str, str | None]:
    return {name: (query.get(name) or "").strip() or None for name in ("type", "step", "error")}


def _place(text: str | None) -> tuple[datetime, UUID] | None:
    if not text:
        return None
    since, _, saga_id = text.partition("~")
    try:
        return datetime.fromisoformat(since), UUID(saga_id)
    except ValueError:
        raise InputError(f"{text!r} is no place in the queue: begin at its top") from None

"""``/admin/types``: the saga types, how they go, and their limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from markupsafe import Markup
from psycopg import AsyncConnection
from starlette.responses import Response

from outbox.durations import duration_of
from outbox.errors import InputError, NotFoundError
from outbox.viewer import fleet, rates
from outbox.viewer.changes import rule_changes
from outbox.viewer.plan import plan_of
from outbox.viewer.rates import Completion, LatencyAt
from outbox.web.charts.diagram import diagram
from outbox.web.charts.series import Window, lines, stacked
from outbox.web.forms import whole_number
from outbox.web.live import Topic
from outbox.web.site import Site
from outbox.web.times import duration_text
from outbox.web.visit import Visit

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)  # where the database's buckets begin
_CHARTED = 12
_CHANGES = 20


@dataclass(frozen=True)
class Span:
    """A window of time to choose, and the buckets in which it is drawn."""

    words: str
    length: timedelta
    bucket: timedelta


SPANS = {
    "15m": Span("last 15 minutes", timedelta(minutes=15), timedelta(seconds=30)),
    "1h": Span("last hour", timedelta(hours=1), timedelta(minutes=2)),
    "24h": Span("last 24 hours", timedelta(days=1), timedelta(minutes=30)),
    "7d": Span("last 7 days", timedelta(days=7), timedelta(hours=4)),
}


async def type_list(visit: Visit) -> Response:
    """The types with what lives of them."""
    async with visit.site.reading() as connection:
        visit.nav = await visit.site.nav(connection)
        fragments = await _load_list(visit.site, connection)
    return await visit.page("types.html", fragments=fragments, live=visit.url("/live/types"))


def list_topic(visit: Visit) -> Topic:
    """The list's live parts."""
    site = visit.site
    return Topic(("types",), lambda connection: _load_list(site, connection), every=5.0)


async def _load_list(site: Site, connection: AsyncConnection[Any]) -> dict[str, Markup]:
    versions = await fleet.versions(connection, site.schema)
    counts = (await site.living(connection)).live
    day = await rates.completion(connection, site.schema, bucket=timedelta(days=1))
    pauses = {p.type for p in await fleet.paused(connection, site.schema) if p.saga_id is None}
    return {
        "type-list": site.rendering.render(
            "types/list.html",
            types=[
                {
                    "name": name,
                    "versions": [v for v in versions if v.type == name],
                    "live": {c.status: c.sagas for c in counts if c.type == name},
                    "day": _sum([c for c in day if c.type == name]),
                    "paused": name in pauses or None in pauses,
                }
                for name in dict.fromkeys(version.type for version in versions)
            ],
        )
    }


async def type_page(visit: Visit) -> Response:
    """One type."""
    site, name = visit.site, visit.path("type")
    chosen = _span(visit)
    async with site.reading() as connection:
        visit.nav = await site.nav(connection)
        definitions = await fleet.definitions(connection, site.schema, name)
        if not definitions:
            raise NotFoundError(f"no saga type {name!r} is registered")
        wanted = visit.query.get("version")
        shown = next((d for d in definitions if str(d.version) == wanted), definitions[0])
        fragments = await _load_type(site, connection, name, chosen)
        limits = await fleet.limits(connection, site.schema, name)
        changed = await rule_changes(connection, site.schema, type=name, limit=_CHANGES)
        pauses = [p for p in await fleet.paused(connection, site.schema) if p.saga_id is None]
    return await visit.page(
        "type.html",
        name=name,
        shown=shown,
        definitions=definitions,
        fragments=fragments,
        picture=diagram(plan_of(shown.steps)),
        limits=limits,
        rule_changes=[one for one in changed if one.rule != "schedule"],
        span=chosen,
        spans=SPANS,
        pauses=[p for p in pauses if p.type in (None, name)],
        live=visit.url(f"/live/type/{name}", span=chosen),
    )


def topic(visit: Visit) -> Topic:
    """One type's live parts."""
    site, name, chosen = visit.site, visit.path("id"), _span(visit)
    return Topic(
        ("type", name, chosen),
        lambda connection: _load_type(site, connection, name, chosen),
        every=10.0,
    )


async def _load_type(
    site: Site, connection: AsyncConnection[Any], name: str, chosen: str
) -> dict[str, Markup]:
    span = SPANS[chosen]
    versions = await fleet.versions(connection, site.schema, name)
    counts = (await site.living(connection)).live
    completion = await rates.completion(connection, site.schema, span.length, name, span.bucket)
    over = await rates.latency_over(connection, site.schema, span.length, span.bucket, name)
    steps = await rates.latency(connection, site.schema, span.length, name)
    errors = await rates.errors(connection, site.schema, span.length, name, 5)
    now = datetime.now(UTC)
    window = Window(_bucket_of(now - span.length, span.bucket), now, span.bucket)
    return {
        "type-numbers": site.rendering.render(
            "types/numbers.html",
            name=name,
            total=_sum(completion),
            span=span,
            live={c.status: c.sagas for c in counts if c.type == name},
        ),
        "type-versions": site.rendering.render("types/versions.html", versions=versions),
        "type-completion": _completion_charts(site, completion, window, span),
        "type-latency": site.rendering.render(
            "types/latency.html",
            steps=steps,
            span=span,
            charts=_latency_charts(over, window),
            left_out=max(len(steps) - _CHARTED, 0),
        ),
        "type-errors": site.rendering.render("types/errors.html", errors=errors, span=span),
    }


def _completion_charts(
    site: Site, completion: Sequence[Completion], window: Window, span: Span
) -> Markup:
    counts = {
        c.started_at: {
            "completed": c.completed,
            "failed": c.failed,
            "suspended": c.suspended,
            "live": c.live - c.suspended,
        }
        for c in completion
    }
    points = [(c.started_at, float(c.rate) * 100) for c in completion if c.rate is not None]
    return site.rendering.render(
        "types/completion.html",
        span=span,
        completion=completion,
        bars=stacked(
            window,
            counts,
            ("completed", "failed", "suspended", "live"),
            f"what became of the sagas started in the {span.words}",
        ),
        line=lines(
            window,
            {"rate": points},
            f"completion rate over the {span.words}",
            lambda value: f"{value:.0f} %",
            top=100.0,
        ),
    )


def _latency_charts(over: Sequence[LatencyAt], window: Window) -> dict[tuple[str, str], Markup]:
    charts = {}
    for step, kind in list(dict.fromkeys((row.step, row.kind) for row in over))[:_CHARTED]:
        rows = [row for row in over if (row.step, row.kind) == (step, kind)]
        charts[step, kind] = lines(
            window,
            {
                "p95": [(row.at, row.p95) for row in rows if row.p95 is not None],
                "p50": [(row.at, row.p50) for row in rows if row.p50 is not None],
            },
            f"latency of {step} ({kind}), half and 95 percent of its attempts",
            lambda value: duration_text(value) if value else "0",
            size=(370.0, 130.0),
        )
    return charts


# What an operator changes.


async def set_limit(visit: Visit) -> Response:
    """Sets a limit, or changes it."""
    name = visit.path("type")
    limit = visit.wanted("name")
    amount = whole_number(visit.wanted("amount"), "amount")
    per, note = visit.field("per"), visit.wanted("note")
    async with visit.site.acting(_user(visit)) as connection:
        await visit.site.rules.set_limit(
            connection,
            name,
            limit,
            amount,
            key=visit.field("key"),
            per=None if per is None else duration_of(per),
            counts_waiting=visit.field("counts_waiting") is not None,
            note=note,
        )
    _tell(visit, "set_limit", type=name, limit=limit, amount=amount)
    return visit.go(visit.url(f"/types/{name}"), f"Limit {limit} is {amount} now.")


async def drop_limit(visit: Visit) -> Response:
    """Ends a limit."""
    name, limit, note = visit.path("type"), visit.wanted("name"), visit.wanted("note")
    async with visit.site.acting(_user(visit)) as connection:
        await visit.site.rules.drop_limit(connection, name, limit, note=note)
    _tell(visit, "drop_limit", type=name, limit=limit)
    return visit.go(visit.url(f"/types/{name}"), f"Limit {limit} is gone.")


async def pause_type(visit: Visit) -> Response:
    """Begins nothing more of a type."""
    name, note = visit.path("type"), visit.wanted("note")
    async with visit.site.acting(_user(visit)) as connection:
        in_flight = await visit.site.operator.pause(connection, note, name)
    _tell(visit, "pause", type=name)
    return visit.go(
        visit.url(f"/types/{name}"), f"Paused; {in_flight} in flight finish what they are at."
    )


async def resume_type(visit: Visit) -> Response:
    """Ends the pause of a type."""
    name, note = visit.path("type"), visit.wanted("note")
    async with visit.site.acting(_user(visit)) as connection:
        due = await visit.site.operator.resume(connection, note, name)
    _tell(visit, "resume", type=name)
    return visit.go(visit.url(f"/types/{name}"), f"Resumed; {due} commands are due.")


def _tell(visit: Visit, act: str, **fields: object) -> None:
    visit.site.telemetry.emit("operator_act", act=act, actor=_user(visit).name, **fields)


def _user(visit: Visit) -> Any:
    assert visit.user is not None, "only operators get here"
    return visit.user


def _span(visit: Visit) -> str:
    chosen = visit.query.get("span", "24h")
    if chosen not in SPANS:
        raise InputError(f"{chosen!r} is no span: there are {', '.join(SPANS)}")
    return chosen


def _bucket_of(at: datetime, bucket: timedelta) -> datetime:
    return at - (at - _EPOCH) % bucket


def _sum(completion: Sequence[Completion]) -> dict[str, Any]:
    total = {
        name: sum(getattr(c, name) for c in completion)
        for name in ("started", "completed", "failed", "suspended", "live")
    }
    settled = total["completed"] + total["failed"] + total["suspended"]
    return {**total, "rate": total["completed"] / settled if settled else None}

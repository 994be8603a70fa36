"""``/admin/health``, ``/admin/workers`` and ``/admin/schedules``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

from markupsafe import Markup
from psycopg import AsyncConnection
from starlette.responses import Response

from outbox.errors import InputError
from outbox.rules import CatchUp
from outbox.viewer import fleet, rates
from outbox.viewer.changes import rule_changes
from outbox.web.forms import json_of
from outbox.web.live import Topic
from outbox.web.site import Site
from outbox.web.visit import Visit

_CHANGES = 20

Load = Callable[[Site, AsyncConnection[Any]], Awaitable[dict[str, Markup]]]


async def _health(site: Site, connection: AsyncConnection[Any]) -> dict[str, Markup]:
    schema, draw = site.schema, site.rendering.render
    return {
        "health-findings": draw(
            "fleet/findings.html", findings=await fleet.health(connection, schema)
        ),
        "health-paused": draw("fleet/paused.html", paused=await fleet.paused(connection, schema)),
        "health-stuck": draw("fleet/stuck.html", stuck=await fleet.stuck(connection, schema, 20)),
        "health-errors": draw(
            "fleet/errors.html", errors=await rates.errors(connection, schema, limit=10)
        ),
        "health-subscriptions": draw(
            "fleet/subscriptions.html", subscriptions=await fleet.subscriptions(connection, schema)
        ),
    }


async def _workers(site: Site, connection: AsyncConnection[Any]) -> dict[str, Markup]:
    schema, draw = site.schema, site.rendering.render
    return {
        "worker-list": draw("fleet/workers.html", workers=await fleet.workers(connection, schema)),
        "worker-running": draw(
            "fleet/running.html", running=await fleet.running(connection, schema, 50)
        ),
        "worker-queued": draw(
            "fleet/queued.html", queued=await fleet.queued(connection, schema, 50)
        ),
        "worker-throughput": draw(
            "fleet/throughput.html", throughput=await rates.throughput(connection, schema)
        ),
    }


async def _schedules(site: Site, connection: AsyncConnection[Any]) -> dict[str, Markup]:
    # The forms in it have a token, so the list itself is not live.
    return {}


async def _page(visit: Visit, name: str, load: Load, **values: Any) -> Response:
    async with visit.site.reading() as connection:
        visit.nav = await visit.site.nav(connection)
        fragments = await load(visit.site, connection)
    return await visit.page(
        f"{name}.html", fragments=fragments, live=visit.url(f"/live/{name}"), **values
    )


async def health(visit: Visit) -> Response:
    """What is wrong, and what to do about it."""
    return await _page(visit, "health", _health)


def health_topic(visit: Visit) -> Topic:
    """Its live parts."""
    site = visit.site
    return Topic(("health",), lambda connection: _health(site, connection), every=5.0)


async def workers(visit: Visit) -> Response:
    """Who runs sagas, and what they hold."""
    return await _page(visit, "workers", _workers)


def workers_topic(visit: Visit) -> Topic:
    """Its live parts."""
    site = visit.site
    return Topic(("workers",), lambda connection: _workers(site, connection), every=2.0)


async def schedules(visit: Visit) -> Response:
    """The recurring sagas."""
    async with visit.site.reading() as connection:
        rows = await fleet.schedules(connection, visit.site.schema)
        versions = await fleet.versions(connection, visit.site.schema)
        changed = await rule_changes(connection, visit.site.schema, rule="schedule", limit=_CHANGES)
    types = sorted({version.type for version in versions})
    return await _page(
        visit, "schedules", _schedules, schedules=rows, types=types, rule_changes=changed
    )


def schedules_topic(visit: Visit) -> Topic:
    """Its live parts: what stands beside the links."""
    site = visit.site
    return Topic(("schedules",), lambda connection: _schedules(site, connection), every=10.0)


async def set_schedule(visit: Visit) -> Response:
    """Sets a recurring saga, or changes it."""
    name, note = visit.wanted("name"), visit.wanted("note")
    given = visit.field("input") or "{}"
    try:
        input_ = json_of(given)
    except ValueError as error:
        raise InputError(f"the input is malformed JSON: {error}") from None
    if not isinstance(input_, dict):
        raise InputError("the input is a JSON object")
    async with visit.site.acting(_user(visit)) as connection:
        known = {s.name: s for s in await fleet.schedules(connection, visit.site.schema)}
        if name in known:
            input_ = visit.site.rendering.masking.restore(input_, known[name].input)
        await visit.site.rules.set_schedule(
            connection,
            name,
            visit.wanted("type"),
            visit.wanted("cron"),
            zone=visit.field("zone") or "UTC",
            input=input_,
            catch_up=cast(CatchUp, visit.field("catch_up") or "last"),
            note=note,
        )
    return _done(visit, "set_schedule", name, f"Schedule {name} is set.")


async def pause_schedule(visit: Visit) -> Response:
    """Lets a recurring saga rest."""
    name, note = visit.wanted("name"), visit.wanted("note")
    async with visit.site.acting(_user(visit)) as connection:
        await visit.site.rules.pause_schedule(connection, name, note=note)
    return _done(visit, "pause_schedule", name, f"Schedule {name} rests.")


async def resume_schedule(visit: Visit) -> Response:
    """Has a recurring saga go on."""
    name, note = visit.wanted("name"), visit.wanted("note")
    async with visit.site.acting(_user(visit)) as connection:
        await visit.site.rules.resume_schedule(connection, name, note=note)
    return _done(visit, "resume_schedule", name, f"Schedule {name} goes on.")


async def drop_schedule(visit: Visit) -> Response:
    """Ends a recurring saga."""
    name, note = visit.wanted("name"), visit.wanted("note")
    async with visit.site.acting(_user(visit)) as connection:
        await visit.site.rules.drop_schedule(connection, name, note=note)
    return _done(visit, "drop_schedule", name, f"Schedule {name} is gone; what it started goes on.")


def _done(visit: Visit, act: str, name: str, said: str) -> Response:
    visit.site.telemetry.emit("operator_act", act=act, actor=_user(visit).name, schedule=name)
    return visit.go(visit.url("/schedules"), said)


def _user(visit: Visit) -> Any:
    assert visit.user is not None, "only operators get here"
    return visit.user

"""``/admin/sagas``: the list, found by what sagas are and how they stand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from markupsafe import Markup
from psycopg import AsyncConnection
from starlette.responses import Response

from outbox.errors import InputError
from outbox.viewer import fleet, sagas
from outbox.viewer.sagas import STATUSES, Page, SagaFilter
from outbox.web.live import Topic
from outbox.web.site import Site
from outbox.web.visit import Visit

_ROWS = 50
_SPANS = {
    "15m": ("15 minutes", timedelta(minutes=15)),
    "1h": ("hour", timedelta(hours=1)),
    "1d": ("day", timedelta(days=1)),
    "7d": ("week", timedelta(days=7)),
}
AGES = {
    **{f"<{name}": f"started in the last {words}" for name, (words, _) in _SPANS.items()},
    **{
        f">{name}": f"older than {'a' if name != '1h' else 'an'} {words}"
        if name != "15m"
        else f"older than {words}"
        for name, (words, _) in _SPANS.items()
    },
}


@dataclass(frozen=True)
class Wanted:
    """What the list is asked for; ``text`` is an id, a key, or how a key begins."""

    text: str | None
    filter: SagaFilter
    age: str
    before: UUID | None

    @property
    def is_filtered(self) -> bool:
        """Whether anything is asked for."""
        return self.text is not None or self.filter != SagaFilter()

    def query(self, **changes: object) -> dict[str, object]:
        """The address's query that asks for this, with these changes."""
        return {
            "q": self.text,
            "type": self.filter.type,
            "status": self.filter.statuses,
            "state": self.filter.state,
            "step": self.filter.step,
            "error": self.filter.error,
            "age": self.age,
            **changes,
        }


def wanted(visit: Visit) -> Wanted:
    """What the address asks for.

    Raises:
        InputError: that cannot be.
    """
    query = {k: v.strip() for k, v in visit.query.items() if v.strip()}
    statuses = [s.upper() for s in visit.request.query_params.getlist("status") if s]
    for status in statuses:
        if status not in STATUSES:
            raise InputError(f"{status!r} is no status: there are {', '.join(STATUSES)}")
    age = query.get("age", "")
    if age and age not in AGES:
        raise InputError(f"{age!r} is no age: there are {', '.join(AGES)}")
    try:
        before = UUID(query["before"]) if "before" in query else None
    except ValueError:
        raise InputError(f"{query['before']!r} is no place in the list: begin at its top") from None
    span = _SPANS[age[1:]][1] if age else None
    found = SagaFilter(
        type=query.get("type"),
        statuses=tuple(sorted(set(statuses), key=STATUSES.index)),
        state=query.get("state"),
        step=query.get("step"),
        error=query.get("error"),
        older_than=span if age.startswith(">") else None,
        younger_than=span if age.startswith("<") else None,
    )
    return Wanted(query.get("q"), found, age, before)


async def saga_list(visit: Visit) -> Response:
    """The page."""
    asked = wanted(visit)
    async with visit.site.reading() as connection:
        visit.nav = await visit.site.nav(connection)
        fragments = await load(visit.site, connection, asked)
        versions = await fleet.versions(connection, visit.site.schema)
    return await visit.page(
        "sagas.html",
        asked=asked,
        fragments=fragments,
        types=sorted({version.type for version in versions}),
        statuses=STATUSES,
        ages=AGES,
        live=visit.url("/live/sagas", **asked.query(before=asked.before)),
    )


def topic(visit: Visit) -> Topic:
    """The page's live parts."""
    asked, site = wanted(visit), visit.site
    return Topic(("sagas", asked), lambda connection: load(site, connection, asked, 1.0))


async def load(
    site: Site, connection: AsyncConnection[Any], asked: Wanted, within: float = 0.05
) -> dict[str, Markup]:
    """The parts of the page that change; what has ended lately only where that can be counted
    within so many seconds."""
    counts = await site.living(connection)
    found = await _find(site, connection, asked)
    ended = await site.ended(connection, within)
    of_type = [c for c in ended or () if asked.filter.type in (None, c.type)]
    lately = {
        status: None if ended is None else sum(c.sagas for c in of_type if c.status == status)
        for status in ("COMPLETED", "FAILED")
    }
    return {
        "saga-counts": site.rendering.render(
            "sagas/counts.html", counts=counts, ended=lately, asked=asked
        ),
        "saga-rows": site.rendering.render("sagas/rows.html", page=found, asked=asked),
        "saga-pager": site.rendering.render("sagas/pager.html", page=found, asked=asked),
    }


async def _find(site: Site, connection: AsyncConnection[Any], asked: Wanted) -> Page:
    if asked.text is None:
        return await sagas.find_sagas(connection, site.schema, asked.filter, asked.before, _ROWS)
    if asked.filter == SagaFilter():
        return Page(await sagas.search(connection, site.schema, asked.text, _ROWS), None)
    given = {name: getattr(asked.filter, name) for name in SagaFilter.__dataclass_fields__}
    given["key_prefix"] = asked.text
    return await sagas.find_sagas(connection, site.schema, SagaFilter(**given), asked.before, _ROWS)

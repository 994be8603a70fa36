"""Finding sagas among many: what each filter finds, page by page, and what it looks at for that."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.fixtures import fresh_schema
from tests.sql.conftest import running_engine
from tests.sql.crowd import gather
from tests.sql.engine import Engine
from tests.sql.lined import both_suspended
from tests.sql.looks import explaining, looking
from tests.sql.positions import reach, suspend

CROWD = 40_000
PAGES = 800
"""What one page may look at; all the rows of `instance` have twice as many."""


@pytest.fixture(scope="module")
def engine(postgres_dsn: str) -> Iterator[Engine]:
    """Sagas in every position, after a crowd of finished ones."""
    with fresh_schema(postgres_dsn) as schema, running_engine(schema) as made:
        for position in ("first", "pivot", "compensation", "after the pivot"):
            reach(made, position)
        suspend(made)
        suspend(made, "compensation")
        both_suspended(made)
        at = reach(made, "compensation")
        at.worker.say(at.worker.say(at.held, "done"), "done")
        made.value("select cancel(%s, 'changed their mind')", made.start(key="cancelled"))
        made.start(key="crowd-of-one")
        made.start("entry", key="crowd-1")
        gather(made, CROWD)
        yield made


def ids(engine: Engine, filter: dict[str, Any], limit: int = 1000) -> list[UUID]:
    """All that a filter finds, page by page."""
    found: list[UUID] = []
    before = None
    while True:
        (page,) = engine.rows(
            "select * from saga_page(%s, %s, %s)", json.dumps(filter), before, limit
        )
        assert len(page.ids) <= limit
        assert not set(page.ids) & set(found), "no saga is on two pages"
        found += page.ids
        if page.next_before is None:
            return found
        assert before is None or page.next_before < before, "each page is further back"
        before = page.next_before


LINE = "select from outbox b where coalesce(b.root, b.id) = o.saga_id"
# What a filter means, said of overview.
MEANING = {
    "type": "o.type = %(type)s",
    "status": "o.status = any (%(status)s)",
    "state": "o.state = %(state)s",
    "key": "o.key = %(key)s",
    "key_prefix": "starts_with(o.key, %(key_prefix)s)",
    "older_than": "o.saga_id < first_id_at(clock() - %(older_than)s::interval)",
    "younger_than": "o.saga_id >= first_id_at(clock() - %(younger_than)s::interval)",
    "step": f"(exists ({LINE} and b.step = %(step)s)"
    " or exists (select from failure f where f.saga_id = o.saga_id and f.step = %(step)s))",
    "error": "(o.error ->> 'type' = %(error)s and o.status = 'FAILED' "
    f"or exists ({LINE} and line_error(b) ->> 'type' = %(error)s))",
}
FILTERS: list[dict[str, Any]] = [
    {},
    {"status": ["FAILED"]},
    {"status": ["SUSPENDED"]},
    {"status": ["COMPENSATING", "CREATED", "EXECUTING"]},
    {"status": ["SUSPENDED", "FAILED"], "type": "order"},
    {"status": ["COMPLETED"], "type": "order"},
    {"type": "single"},
    {"type": "lined"},
    {"type": "order", "younger_than": "1 day"},
    {"status": ["FAILED"], "type": "single"},
    {"state": "CHARGED"},
    {"state": "CANCELLED"},
    {"state": "FAILED", "younger_than": "1 day"},
    {"state": "COMPLETED", "older_than": "8 days"},
    {"step": "charge"},
    {"step": "left", "status": ["SUSPENDED"]},
    {"error": "Rare"},
    {"error": "Boom"},
    {"error": "Rare", "type": "order", "step": "charge"},
    {"key": "crowd-1"},
    {"key": "crowd-3", "status": ["FAILED"]},
    {"key": "nobody's"},
    {"key_prefix": "crowd-123"},
    {"key_prefix": "crowd-"},
    {"key_prefix": "crowd-1", "status": ["FAILED"]},
    {"key_prefix": "100%_", "type": "order"},
    {"older_than": "9 days"},
    {"younger_than": "1 hour", "status": ["COMPLETED", "EXECUTING"]},
]


@pytest.mark.parametrize("filter", FILTERS, ids=json.dumps)
def test_a_filter_finds_what_overview_says(engine: Engine, filter: dict[str, Any]) -> None:
    condition = " and ".join(MEANING[name] for name in filter) or "true"
    expected = engine.connection.execute(
        f"select o.saga_id from overview o where {condition} order by o.saga_id desc",  # noqa: S608
        filter,
    ).fetchall()
    # The least and the greatest instants of an interval move on in between.
    found = ids(engine, filter)
    assert found == sorted(found, reverse=True)
    assert {saga for (saga,) in expected} == set(found)


def test_small_pages_are_the_same_sagas(engine: Engine) -> None:
    for filter in ({"status": ["SUSPENDED", "FAILED"]}, {"key_prefix": "crowd-12"}):
        assert ids(engine, filter, 7) == ids(engine, filter)


def test_rows_are_those_of_overview(engine: Engine) -> None:
    found = engine.rows('select * from find_sagas(\'{"status": "suspended"}\', null, 2)')
    (first, second) = found
    assert first.saga_id > second.saga_id
    assert {first.status, second.status} == {"SUSPENDED"}
    assert first.reason
    (row,) = engine.rows('select * from find_sagas(\'{"key": "cancelled"}\')')
    assert (row.status, row.state, row.error["type"]) == ("FAILED", "CANCELLED", "Cancelled")
    assert row.ended_at - row.created_at == row.age > timedelta()


@pytest.mark.parametrize(
    ("filter", "problem"),
    [
        ('{"typ": "order"}', "does not know: typ"),
        ('{"status": "DONE"}', "no status DONE"),
        ('{"older_than": "soon"}', "cannot be read"),
        ("[]", "must be a JSON object, not array"),
    ],
)
def test_a_filter_that_asks_for_what_cannot_be_is_refused(
    engine: Engine, filter: str, problem: str
) -> None:
    with pytest.raises(psycopg.Error, match=problem) as refused:
        engine.rows("select * from find_sagas(%s)", filter)
    assert refused.value.sqlstate == "SG002"


def test_a_page_has_a_limit(engine: Engine) -> None:
    with pytest.raises(psycopg.Error, match="1 to 1000 sagas, not 0"):
        engine.rows("select * from find_sagas('{}', null, 0)")


QUICK: list[dict[str, Any]] = [
    *(filter for filter in FILTERS if "key_prefix" not in filter),
    {"key_prefix": "crowd-123"},
    {"key_prefix": "crowd-39"},
]


def test_a_page_looks_at_few_rows(engine: Engine) -> None:
    with explaining(engine.schema) as connection:
        for filter in QUICK:
            given = json.dumps(filter)
            with looking(connection) as look:
                connection.execute("select * from find_sagas(%s)", (given,)).fetchall()
            assert not look.scanned, f"{given} scanned a table"
            assert look.pages < PAGES, f"{given} looked at {look.pages} pages"


def test_rows_by_their_ids_are_found_by_the_index(engine: Engine) -> None:
    """As the reading layer fetches a page, with whatever plan the server has come to."""
    some = ids(engine, {"status": ["SUSPENDED", "FAILED"]}, 50)[:50]
    with explaining(engine.schema) as connection:
        for _ in range(7):
            with looking(connection) as look:
                connection.execute(
                    "select * from overview where saga_id = any(%s) order by saga_id desc",
                    (some,),
                    prepare=True,
                ).fetchall()
        assert not {"instance", "transition"} & look.scanned
        assert look.pages < 8 * len(some)


def test_a_search_that_finds_little_says_where_it_stopped(engine: Engine) -> None:
    rare = '{"key_prefix": "crowd-", "status": ["FAILED"], "error": "Rare", "older_than": "1 day"}'
    (page,) = engine.rows("select * from saga_page(%s, null, 1000, 4000)", rare)
    assert page.next_before is not None
    assert len(page.ids) == 4, "one of a thousand"
    assert page.next_before <= page.ids[-1]


WINDOWS = {
    "select * from latency_since('1 hour')": "transition_at",
    "select * from latency_over('1 hour', '10 minutes', 'order')": "transition_at",
    "select * from errors_since('1 hour')": "transition_at",
    "select * from throughput_since('10 seconds')": "transition_at",
    "select * from ended_since('1 hour')": "transition_at",
    "select * from completion_rate_since('1 hour')": "instance_pkey",
    "select * from latency": "transition_at",
    "select * from completion_rate": "instance_pkey",
    "select * from errors": "transition_at",
}


def test_windows_of_time_are_found_by_an_index(engine: Engine) -> None:
    with explaining(engine.schema) as connection:
        for statement, index in WINDOWS.items():
            with looking(connection) as look:
                connection.execute(statement.encode()).fetchall()
            assert index in look.indexes, f"{statement} does not use {index}"
            assert not {"instance", "transition"} & look.scanned, f"{statement} scanned a table"

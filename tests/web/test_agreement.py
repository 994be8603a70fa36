"""The faces agree: psql, `bin/saga`, the pages, the API and `/metrics` say the same."""

import re
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from tests.cli.conftest import SagaProgram
from tests.fixtures import Schema, fresh_schema
from tests.web.api.conftest import TOKENS, ApiClient
from tests.web.conftest import Browser, Served, serving
from tests.web.sagas import ORDER, PURCHASE
from tests.web.test_metrics import samples_of
from tests.web.world import make_world, start

# Of the command line's tests: a fixture that runs the program on `schema`.
from tests.cli.conftest import saga_program as saga_program  # isort: skip

ENDED = ("COMPLETED", "FAILED")


@pytest.fixture
def schema(postgres_dsn: str) -> Iterator[Schema]:
    with fresh_schema(postgres_dsn) as made:
        yield made


@pytest.fixture
def world(schema: Schema) -> Iterator[Served]:
    with serving(schema, tokens=TOKENS) as running:
        running.engine.register(ORDER, PURCHASE)
        made = make_world(running.engine)
        for n in range(3):
            start(running.engine, "order", f"more-{n}", number=n)
        made.worker.claim(1)
        yield running


def shown(browser: Browser) -> Counter[str]:
    """The statuses of the list's rows."""
    return Counter(
        re.findall(r'class="saga-row[^>]*data-status="(\w+)"', browser.get("/sagas").text)
    )


def tiles(browser: Browser) -> dict[str, int]:
    """The numbers above the list."""
    found = re.findall(
        r'class="tile s-(\w+)".*?<b>([\d\s]+)</b>', browser.get("/sagas").text, flags=re.DOTALL
    )
    return {status.upper(): int(number) for status, number in found}


def test_all_faces_count_the_same(world: Served, saga_program: SagaProgram) -> None:
    engine, api = world.engine, ApiClient(world.base, "viewer")
    truth = {
        row.status: row.count
        for row in engine.rows("select status, count(*) from overview group by 1")
    }
    assert set(truth) == {"COMPLETED", "FAILED", "SUSPENDED", "EXECUTING", "CREATED"}
    live = {status: count for status, count in truth.items() if status not in ENDED}

    listed = saga_program("list", "--json", "--limit", "1000").json
    rows = listed["sagas"] if isinstance(listed, dict) else listed
    assert Counter(row["status"] for row in rows) == truth
    top = saga_program("top", "--once", "--json").json
    counted: Counter[str] = Counter()
    for row in top["live"]:
        counted[row["status"]] += row["sagas"]
    assert counted == live
    assert len(top["suspended"]) == truth["SUSPENDED"]

    browser = world.browser("vera")
    assert shown(browser) == truth
    assert tiles(browser) == {"COMPENSATING": 0, **truth}

    found = api.get("/sagas", limit=1000).json()["sagas"]
    assert Counter(row["status"] for row in found) == truth
    for status, count in truth.items():
        assert len(api.get("/sagas", status=status).json()["sagas"]) == count

    measured: Counter[str] = Counter()
    for name, number in samples_of(httpx.get(f"{world.base}/metrics")).items():
        if name.startswith("outbox_live_sagas"):
            measured[re.findall(r"'status': '(\w+)'", name)[0]] += int(number)
    assert measured == live


def test_all_faces_tell_the_same_story(world: Served, saga_program: SagaProgram) -> None:
    engine, api = world.engine, ApiClient(world.base, "viewer")
    saga_id = engine.value("select id from instance where key = 'stopped-1'")
    story = engine.rows("select seq, what, state from timeline('stopped-1')")
    told = saga_program("show", "stopped-1", "--json").json
    assert [entry["what"] for entry in told["timeline"]] == [row.what for row in story]
    answer = api.get(f"/sagas/{saga_id}/timeline").json()
    assert [entry["what"] for entry in answer["moments"]] == [row.what for row in story]
    page = world.browser("vera").get(f"/sagas/{saga_id}").text
    for row in story[1:]:
        assert row.what.partition(",")[0] in page


def test_all_faces_find_the_same_wrong(world: Served, saga_program: SagaProgram) -> None:
    truth = {row.finding for row in world.engine.rows("select finding from health")}
    assert "suspended" in truth
    ran = saga_program("health", "--json")
    assert {row["finding"] for row in ran.json} == truth
    page = world.browser("vera").get("/health").text
    assert all(finding in page for finding in truth)
    api = ApiClient(world.base, "viewer").get("/health").json()
    assert {row["finding"] for row in api["findings"]} == truth

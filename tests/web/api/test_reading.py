"""Sagas found and told of, and the addresses around them."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from psycopg.conninfo import make_conninfo

from tests.fixtures import Schema, fresh_schema
from tests.web.api.conftest import TOKENS, ApiClient, problem_of
from tests.web.conftest import serving, text_of
from tests.web.sagas import ORDER, PURCHASE
from tests.web.world import SECRETS, make_world


@pytest.fixture(scope="module")
def world(postgres_dsn: str) -> Any:
    """A server whose database holds one saga of each kind and 25 more."""
    with fresh_schema(postgres_dsn) as schema, serving(schema, tokens=TOKENS) as served:
        served.engine.register(ORDER, PURCHASE)
        made = make_world(served.engine)
        served.engine.execute(
            "select start_many('order', array_agg('{}'::jsonb), array_agg('many-' || n)) "
            "from generate_series(1, 25) as n"
        )
        yield SimpleNamespace(served=served, sagas=made, client=ApiClient(served.base, "viewer"))


def keys_of(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [one["key"] for one in answer.json()["sagas"]]


def test_the_list_is_paged_to_its_end(world: SimpleNamespace) -> None:
    client = world.client
    found: list[str] = []
    answer = client.get("/sagas", type="order", limit=7)
    pages = 1
    while (further := answer.json()["next"]) is not None:
        found += keys_of(answer)
        assert answer.headers["link"] == f'<{further}>; rel="next"'
        assert "type=order" in further
        answer = client.http.get(further)
        pages += 1
    found += keys_of(answer)
    assert "link" not in answer.headers
    everything = world.served.engine.rows(
        "select key from instance where type = 'order' order by id desc"
    )
    assert found == [row.key for row in everything]
    assert pages == math.ceil(len(everything) / 7) >= 4


def test_the_list_is_filtered(world: SimpleNamespace) -> None:
    client, sagas = world.client, world.sagas
    assert keys_of(client.get("/sagas", status="FAILED")) == ["failed-1"]
    assert keys_of(client.get("/sagas", error="Declined")) == ["failed-1"]
    both = client.http.get("/api/sagas?status=COMPLETED&status=SUSPENDED")
    assert keys_of(both) == ["stopped-1", "done-1"]
    assert keys_of(client.get("/sagas", key="done-1")) == ["done-1"]
    assert len(keys_of(client.get("/sagas", key_prefix="many-1"))) == 11
    assert keys_of(client.get("/sagas", state="CHARGED", type="purchase")) == []
    assert keys_of(client.get("/sagas", older_than="1h")) == []
    assert keys_of(client.get("/sagas", older_than="999999w")) == []
    assert len(keys_of(client.get("/sagas", younger_than="1h30m", type="purchase"))) == 3
    (row,) = client.get("/sagas", status="SUSPENDED").json()["sagas"]
    assert row["id"] == str(sagas.suspended)
    assert (row["step"], row["paused"], row["ended_at"]) == ("mail", False, None)
    assert isinstance(row["seq"], int)
    assert "input" not in row


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("limit=0", "limit"), ("limit=1001", "limit"), ("limit=ten", "digits"),
        ("limit=1_0", "digits"), ("status=DONE", "status"), ("status=completed", "status"),
        ("statsu=FAILED", "statsu"), ("type=", "type"), ("older_than=5", "older_than"),
        ("type=a&type=b", "twice"),
        ("key=%00", "NUL"), ("cursor=zzzz", "cursor"), ("cursor=%C3%A4", "cursor"),
    ],
)  # fmt: skip
def test_a_question_that_cannot_be_is_refused(
    world: SimpleNamespace, query: str, said: str
) -> None:
    answer = world.client.http.get(f"/api/sagas?{query}")
    assert answer.status_code == 400, answer.text
    assert said in answer.json()["detail"]


def test_a_cursor_belongs_to_its_question(world: SimpleNamespace) -> None:
    further = world.client.get("/sagas", type="order", limit=5).json()["next"]
    other = world.client.http.get(further.replace("type=order", "type=purchase"))
    assert "another list" in problem_of(other, 400, "malformed")["detail"]
    # How many at once is not part of the question.
    more = world.client.http.get(further.replace("limit=5", "limit=6"))
    assert len(keys_of(more)) == 6


def test_a_saga_is_told_without_its_secrets(world: SimpleNamespace) -> None:
    client, sagas = world.client, world.sagas
    seen = client.get(f"/sagas/{sagas.marked}")
    told = seen.json()
    assert told["input"]["password"] == "••••••"
    assert told["input"]["customer"].startswith("<script>")  # JSON, and sent as JSON
    assert seen.headers["etag"] == f'"{told["seq"]}"'
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["cache-control"] == "no-store"
    assert seen.headers["x-content-type-options"] == "nosniff"
    failed = client.get(f"/sagas/{sagas.failed}")
    assert failed.json()["error"]["type"] == "Declined"
    assert failed.json()["seq"] is None
    assert "etag" not in failed.headers
    timeline = client.get(f"/sagas/{sagas.marked}/timeline")
    whole = (
        "".join(
            client.get(f"/sagas/{saga}{end}").text
            for saga in (sagas.marked, sagas.failed, sagas.completed)
            for end in ("", "/timeline")
        )
        + client.get("/sagas").text
    )
    for secret in SECRETS:
        assert secret not in whole
    moments = timeline.json()["moments"]
    assert [one["seq"] for one in moments] == sorted(one["seq"] for one in moments)
    assert moments[0]["outcome"] == "started"
    later = client.get(f"/sagas/{sagas.marked}/timeline", after=moments[0]["seq"]).json()
    assert later["moments"] == moments[1:]
    assert client.get(f"/sagas/{sagas.marked}/timeline", after=10_000).json()["moments"] == []


def test_what_is_not_there_is_a_problem(world: SimpleNamespace) -> None:
    client = world.client
    nobody = "00000000-0000-7000-8000-000000000000"
    for path in (
        f"/sagas/{nobody}", f"/sagas/{nobody}/timeline", f"/sagas/{nobody}/events",
        "/sagas/order-1", "/sagas/order-1/timeline", "/nothing", "/sagas/a/b/c/d",
    ):  # fmt: skip
        problem_of(client.get(path), 404, "not-found")
    for method, path, allowed in (
        ("PUT", "/sagas", "GET, HEAD"), ("POST", "/sagas", "GET, HEAD"),
        ("DELETE", f"/sagas/{nobody}", "POST, GET, HEAD"),
        ("GET", f"/sagas/{nobody}/retry", "POST"),
    ):  # fmt: skip
        answer = client.http.request(method, f"/api{path}")
        problem_of(answer, 405, "method-not-allowed")
        assert set(answer.headers["allow"].split(", ")) == set(allowed.split(", "))
    assert client.http.head(f"/api/sagas/{nobody}/events").status_code == 405
    head = client.http.head("/api/sagas")
    assert (head.status_code, head.content) == (200, b"")


def test_a_database_that_is_away_is_told_of_with_when_to_ask_again(
    world: SimpleNamespace,
) -> None:
    schema = world.served.engine.schema
    impatient = make_conninfo(schema.dsn, options="-c lock_timeout=300ms")
    with serving(Schema(impatient, schema.name), tokens=TOKENS) as served:
        client = ApiClient(served.base, "operator")
        assert client.get("/sagas").is_success
        with schema.connect(autocommit=False) as other:
            other.execute("lock table instance in access exclusive mode")
            answer = client.post("/sagas/order", {}, key="waits")
            problem_of(answer, 503, "unavailable")
            assert answer.headers["retry-after"] == "2"
        assert client.post("/sagas/order", {}, key="waits").status_code == 202
        assert [event for event, _ in served.events if event == "api_failed"]


def test_a_database_that_lacks_the_schema_or_is_read_only_is_told_of(
    world: SimpleNamespace,
) -> None:
    schema, saga = world.served.engine.schema, world.sagas.running
    standby = make_conninfo(schema.dsn, options="-c default_transaction_read_only=on")
    missing = Schema(schema.dsn, "not_migrated")
    for where, said, title in (
        (missing, "migrate", "The schema is missing or behind"),
        (Schema(standby, schema.name), "read-only", "The database is read-only"),
    ):
        with serving(where, tokens=TOKENS) as served:
            client, ann = ApiClient(served.base, "operator"), served.browser("ann")
            for answer in (
                client.post("/sagas/order", {"number": 1}, key="lost"),
                client.post(f"/sagas/{saga}/pause", {"note": "n"}),
                client.get("/sagas")
                if where is missing
                else client.post("/acts/retry", {"note": "n"}),
            ):
                assert said in problem_of(answer, 503, "unavailable")["detail"]
            act = {"path": "/schedules/pause", "name": "nightly", "note": "n"}
            page = ann.get("/sagas") if where is missing else ann.post(**act)
            assert (page.status_code, title in text_of(page)) == (503, True), text_of(page)


def test_what_is_nested_as_deep_as_can_be_stored_is_told(world: SimpleNamespace) -> None:
    deep: Any = 1
    for _ in range(252):
        deep = [deep]
    starter, body = ApiClient(world.served.base, "starter"), {"number": 1, "deep": deep}
    saga = starter.start("deep", **body)
    assert world.client.get(f"/sagas/{saga}").json()["input"] == body
    moments = world.client.get(f"/sagas/{saga}/timeline").json()["moments"]
    assert moments[0]["at"].endswith("Z")
    assert starter.post("/sagas/order", {"number": [deep] * 9}, key="deeper").status_code == 400

"""``POST /api/sagas/{type}`` and the applications' own routes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest

from outbox.api import Route
from outbox.errors import ConfigurationError
from outbox.web.api.own import own_operations
from tests.sql.sagas import SINGLE
from tests.waiting import wait_until
from tests.web.api.conftest import ApiClient, problem_of
from tests.web.api.own_routes import find_booking, forget
from tests.web.conftest import Served

PAYMENT = {
    "amount": 2500, "currency": "eur", "merchant": "m-1", "customer": "cus_1",
    "payment_method": "pm_1",
}  # fmt: skip


def test_a_saga_is_started_once_for_each_key(api: Served, starter: ApiClient) -> None:
    first = starter.post("/sagas/order", {"number": 7}, key="o-1")
    assert first.status_code == 202
    told = first.json()
    links = {name: f"/api/sagas/{told['id']}{end}" for name, end in (
        ("saga", ""), ("timeline", "/timeline"), ("events", "/events"),
    )}  # fmt: skip
    assert told == {
        "id": told["id"], "type": "order", "key": "o-1", "status": "CREATED", "created": True,
        "links": links,
    }  # fmt: skip
    assert first.headers["location"] == links["saga"]
    assert "idempotent-replayed" not in first.headers
    # The same again, in other words, with the key as the string that the draft makes of it.
    again = starter.http.post(
        "/api/sagas/order", content=b' {"number" : 7}',
        headers={"Idempotency-Key": '"o-1"', "Content-Type": "application/json; charset=utf-8"},
    )  # fmt: skip
    assert again.status_code == 202
    assert again.json() == {**told, "created": False}
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["location"] == links["saga"]
    other = problem_of(starter.post("/sagas/order", {"number": 8}, key="o-1"), 422, "key-conflict")
    assert '"o-1"' in other["detail"]
    assert api.engine.value("select count(*) from instance where key = 'o-1'") == 1
    # A key belongs to its type, and means what it says.
    assert starter.post("/sagas/purchase", {"customer": "c"}, key="o-1").json()["created"]
    strange = starter.post("/sagas/order", {}, key='"say \\"hi\\" \\\\"').json()
    assert strange["key"] == 'say "hi" \\'
    umlaut = starter.http.post(
        "/api/sagas/order", json={}, headers={"Idempotency-Key": "Aufträge/1".encode()}
    )
    assert umlaut.json()["key"] == "Aufträge/1"


def test_starts_that_race_for_a_key_are_one_saga(api: Served) -> None:
    def start(number: int) -> httpx.Response:
        client = ApiClient(api.base, "starter")
        return client.post("/sagas/order", {"number": number % 2}, key="race")

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(start, range(16)))
    by_status = {answer.status_code for answer in answers}
    assert by_status == {202, 422}
    started = [answer.json() for answer in answers if answer.status_code == 202]
    assert len({one["id"] for one in started}) == 1
    assert [one["created"] for one in started].count(True) == 1
    assert len(started) == 8
    assert api.engine.value("select count(*) from instance where key = 'race'") == 1


def test_a_start_waits_for_the_one_that_is_under_way(api: Served, starter: ApiClient) -> None:
    """Whose answer it then is: the other's saga; or, when that one is taken back, a new one."""
    for end, created in (("commit", False), ("rollback", True)):
        with api.engine.schema.connect(autocommit=False) as other, ThreadPoolExecutor(1) as pool:
            other.execute("select start('order', '{\"number\": 1}', %s)", (f"held-{end}",))
            waiting = pool.submit(starter.post, "/sagas/order", {"number": 1}, key=f"held-{end}")
            _wait_for_a_lock(api)
            other.execute(end)
            assert waiting.result(20).json()["created"] is created


def _wait_for_a_lock(api: Served) -> None:
    wait_until(
        lambda: api.engine.value(
            "select count(*) from pg_stat_activity where application_name = 'outbox-web' "
            "and wait_event_type = 'Lock'"
        )
    )


def test_a_saga_belongs_to_the_trace_of_its_caller(api: Served, starter: ApiClient) -> None:
    def kept(path: str, body: Any, key: str, **headers: str) -> Any:
        saga = starter.post(path, body, key=key, **headers).json()["id"]
        rows = api.engine.rows(
            "select traceparent, tracestate from trace_context where saga_id = %s", saga
        )
        return [(row.traceparent, row.tracestate) for row in rows]

    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    other = parent.replace("0af7", "1af7")
    named = {"traceparent": parent, "tracestate": "vendor=1"}
    assert kept("/sagas/order", {}, "traced", **named) == [(parent, "vendor=1")]
    assert kept("/sagas/order", {}, "traced", traceparent=other) == [(parent, "vendor=1")]
    assert kept("/payments", PAYMENT, "traced", traceparent=parent) == [(parent, None)]
    later = {"traceparent": parent.replace("00-", "01-", 1) + "-more", "tracestate": "x" * 600}
    assert kept("/sagas/order", {}, "traced-later", **later) == [(parent, None)]
    zero = "00-" + "0" * 32 + "-b7ad6b7169203331-01"
    for n, bad in enumerate(("", "x", parent.upper(), parent + "-more", zero, "ff" + parent[2:])):
        assert kept("/sagas/order", {}, f"untraced-{n}", traceparent=bad) == []


def test_when_and_how_urgently_is_in_the_query(api: Served, starter: ApiClient) -> None:
    later = starter.post("/sagas/order?delay=3600&priority=5", {}, key="later").json()["id"]
    due = api.engine.row(later).due_at
    assert timedelta(minutes=59) < due - datetime.now(UTC) < timedelta(minutes=61)
    at = starter.post("/sagas/order?due_at=2099-01-31T09:00:00%2B01:00", {}, key="at").json()["id"]
    assert api.engine.row(at).due_at == datetime(2099, 1, 31, 8, tzinfo=UTC)
    for query in (
        "delay=-1", "delay=soon", "priority=-1", "priority=2000000", "due_at=tomorrow",
        "due_at=5", "due_at=2099-01-31T09:00:00",
        "prio=1", "priority=1&priority=2",
    ):  # fmt: skip
        answer = starter.post(f"/sagas/order?{query}", {}, key="never")
        name = query.partition("=")[0]
        assert name in problem_of(answer, 400, "malformed")["detail"]
    assert api.engine.value("select count(*) from instance where key = 'never'") == 0


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "empty"),
        (b"{", "malformed JSON"),
        (b'{"number": NaN}', "malformed JSON"),
        (b'"\xff"', "malformed JSON"),
        (b"[1]", "JSON object"),
        (b"null", "JSON object"),
        (b'{"number": "many"}', "number"),
        (b'{"number": 1.5}', "number"),
        (b'{"a": "\\u0000"}', "NUL"),
        (b'{"a": "\\ud800"}', "malformed JSON"),
        (b'{"number": 12345678901234567890123}', "64-bit"),
        (b'{"number": ' + b"1" * 5000 + b"}", "malformed JSON"),
        (b'{"a":' * 300 + b"1" + b"}" * 300, "JSON"),
        (b'{"a": "' + b"x" * 300_000 + b'"}', "max_input_bytes"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_body_that_is_no_input_is_refused(
    api: Served, starter: ApiClient, body: bytes, said: str
) -> None:
    headers = {"Idempotency-Key": "bad", "Content-Type": "application/json"}
    answer = starter.http.post("/api/sagas/order", content=body, headers=headers)
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert said in answer.json()["detail"]
    assert api.engine.value("select count(*) from instance where key = 'bad'") == 0


def test_what_the_schema_refuses_is_told_field_by_field(api: Served, starter: ApiClient) -> None:
    body = {**PAYMENT, "amount": -5, "currency": "euro", "card": "4242", "email": "nobody"}
    for path in ("/sagas/payment", "/payments"):
        told = problem_of(starter.post(path, body, key="p-bad"), 400, "invalid-input")
        said = {one["pointer"]: one["detail"] for one in told["errors"]}
        assert "-5" in said["#/amount"]
        assert "#/currency" in said
        assert "match" in said["#/email"]
        assert "4242" not in str(told)
        lacking = {k: v for k, v in PAYMENT.items() if k != "merchant"}
        assert "merchant" in problem_of(
            starter.post(path, lacking, key="p-bad"), 400, "invalid-input"
        )["detail"]  # fmt: skip
    assert api.engine.value("select count(*) from instance where key = 'p-bad'") == 0
    assert starter.post("/sagas/payment", PAYMENT, key="p-good").status_code == 202


def test_a_schema_that_has_changed_is_obeyed_at_once(api: Served, starter: ApiClient) -> None:
    """Though the server keeps schemas for a while."""
    api.engine.register(SINGLE)
    assert starter.post("/sagas/single", {"number": "x"}, key="s-1").status_code == 400
    looser = {"type": "object", "properties": {"number": {"type": ["integer", "string"]}}}
    api.engine.execute(
        "update definition set input_schema = %s, input_fields = '[]' where type = 'single'",
        psycopg.types.json.Jsonb(looser),
    )
    assert starter.post("/sagas/single", {"number": "x"}, key="s-1").status_code == 202


def test_a_start_needs_one_key_and_a_known_type(starter: ApiClient) -> None:
    missing = problem_of(starter.post("/sagas/order", {}), 400, "malformed")
    assert "Idempotency-Key" in missing["detail"]
    for key in (b"", b'"open', b"x" * 513, b"\xff", b'"a"b"', b"a\tb"):
        answer = starter.http.post("/api/sagas/order", json={}, headers={"Idempotency-Key": key})
        assert "Idempotency-Key" in problem_of(answer, 400, "malformed")["detail"]
    twice = starter.http.post(
        "/api/sagas/order", json={}, headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    )
    assert "twice" in problem_of(twice, 400, "malformed")["detail"]
    unknown = problem_of(starter.post("/sagas/odrer", {}, key="a"), 404, "unknown-type")
    assert "order version 1" in unknown["detail"]


def test_what_is_not_json_or_too_large_is_not_read(api: Served, starter: ApiClient) -> None:
    def send(content: Any, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return starter.http.post(
            "/api/sagas/order", content=content, headers={"Idempotency-Key": "big", **named}
        )

    for headers in (
        {}, {"content_type": "text/plain"}, {"content_type": "application/x-www-form-urlencoded"},
        {"content_type": "application/json; charset=latin-1"},
        {"content_type": "application/json", "content_encoding": "gzip"},
    ):  # fmt: skip
        problem_of(send(b"{}", **headers), 415, "unsupported-media-type")
    large = b'{"a": "' + b"x" * 1024 * 1024 + b'"}'
    json = {"content_type": "application/json"}
    problem_of(send(large, **json), 413, "too-large")
    # Without a length it is counted as it comes.
    problem_of(send((large[at : at + 4096] for at in range(0, len(large), 4096)), **json),
               413, "too-large")  # fmt: skip
    assert api.engine.value("select count(*) from instance where key = 'big'") == 0
    assert send(iter([b'{"num', b'ber": 1}']), **json).status_code == 202


def test_the_payment_has_a_route_of_its_own(
    api: Served, starter: ApiClient, viewer: ApiClient
) -> None:
    first = starter.post("/payments", PAYMENT, key="order-77")
    assert first.status_code == 202
    assert first.json()["type"] == "payment"
    seen = viewer.http.get(first.headers["location"]).json()
    assert (seen["key"], seen["status"], seen["input"]["amount"]) == ("order-77", "CREATED", 2500)
    again = starter.post("/payments", PAYMENT, key="order-77")
    assert (again.json()["id"], again.json()["created"]) == (first.json()["id"], False)
    # It is the saga that the general address starts, too.
    assert starter.post("/sagas/payment", PAYMENT, key="order-77").json()["created"] is False
    problem_of(starter.post("/payments", {**PAYMENT, "amount": 1}, key="order-77"), 422,
               "key-conflict")  # fmt: skip
    problem_of(starter.post("/payments", PAYMENT), 400, "malformed")
    problem_of(viewer.post("/payments", PAYMENT, key="order-78"), 403, "forbidden")
    strict = problem_of(starter.post("/payments", {**PAYMENT, "amount": "5"}, key="k"), 400,
                        "invalid-input")  # fmt: skip
    assert strict["errors"][0]["pointer"] == "#/amount"


def test_an_own_route_writes_its_rows_with_the_saga_or_not_at_all(
    api: Served, starter: ApiClient, viewer: ApiClient, operator: ApiClient
) -> None:
    def rows() -> int:
        if api.engine.value("select to_regclass('public.booking')") is None:
            return 0
        return int(api.engine.value("select count(*) from public.booking"))

    before = rows()
    assert starter.post("/bookings", {"number": 1}, key="b-1").status_code == 202
    assert rows() == before + 1
    problem_of(starter.post("/bookings", {"number": 2}, key="b-1"), 422, "key-conflict")
    assert rows() == before + 1
    told = problem_of(starter.post("/bookings", {"number": 2, "password": 7}, key="b-2"), 400,
                      "invalid-input")  # fmt: skip
    assert "7" not in str(told["errors"])
    found = viewer.get("/bookings/o-9", colour="red").json()
    assert found == {"caller": "my-viewer", "order": "o-9", "query": {"colour": "red"}}
    problem_of(viewer.get("/bookings/o-9", size="5"), 400, "malformed")
    problem_of(starter.http.delete("/api/bookings/o-9"), 403, "forbidden")
    assert operator.http.delete("/api/bookings/o-9").status_code == 204
    for how in ("refuse", "break"):
        broken = problem_of(viewer.get("/broken", how=how), 500, "internal-error")
        assert "secret" not in str(broken)


def test_own_routes_of_which_one_could_not_be_reached_are_refused() -> None:
    routes = [
        Route("GET", "/api/bookings/{order}", find_booking),
        Route("PUT", "/api/bookings/{id}", forget),
    ]
    assert len(own_operations(routes[:1], [])) == 1
    with pytest.raises(ConfigurationError, match=r"as /api/bookings/\{order\} does"):
        own_operations(routes, [])

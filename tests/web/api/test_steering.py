"""Signals and operator acts through the API."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from outbox import Saga
from tests.sql.engine import Worker
from tests.sql.sagas import Order, act
from tests.web.api.conftest import ApiClient, problem_of, put_aside
from tests.web.conftest import Served
from tests.web.world import start, suspended_order


def act_of(api: Served, saga: Any) -> tuple[str, str, str]:
    (found,) = api.engine.rows(
        "select act, actor, note from acts where saga_id = %s order by seq desc limit 1", saga
    )
    return found.act, found.actor, found.note


@pytest.fixture(scope="module")
def waiting(api: Served) -> Any:
    """A purchase that waits for its approval."""
    put_aside(api)
    buyer = api.engine.worker("purchase", lease=timedelta(hours=1))
    saga = start(api.engine, "purchase", "signal/1", customer="c")
    held = buyer.say(buyer.claim_one(), "done")
    assert held.step == "approved"
    buyer.say(held, "waiting", result='{"await": "signal"}')
    return saga


def test_a_signal_is_told_once(api: Served, starter: ApiClient, waiting: Any) -> None:
    path = f"/sagas/{waiting}/signals/approved"
    first = starter.post(path, {"by": "ann"}, key="s-1")
    assert first.status_code == 200, first.text
    assert first.json() == {
        "id": str(waiting), "signal": "approved", "outcome": "delivered",
        "links": first.json()["links"],
    }  # fmt: skip
    assert starter.post(path, {"by": "ann"}, key="s-1").json()["outcome"] == "repeated"
    problem_of(starter.post(path, {"by": "eve"}, key="s-1"), 422, "key-conflict")
    # By the saga's key, without a key of its own and without a body: every call counts.
    query = "?type=purchase&key=signal%2F1"
    kept = starter.http.post(f"/api/signals/approved{query}")
    assert kept.json()["outcome"] == "kept", kept.text
    told = api.engine.rows("select key, payload, actor from signals where saga_id = %s "
                           "order by number", waiting)  # fmt: skip
    assert [(one.payload, one.actor.partition(" via ")[0]) for one in told] == [
        ({"by": "ann"}, "my-starter (token)"), (None, "my-starter (token)"),
    ]  # fmt: skip
    unknown = starter.post(f"/sagas/{waiting}/signals/aproved", {})
    assert "approved" in problem_of(unknown, 400, "invalid-input")["detail"]
    problem_of(starter.post("/signals/approved?type=purchase&key=none", {}), 404, "not-found")
    problem_of(starter.post("/signals/approved?type=purchase", {}), 400, "malformed")
    malformed = starter.http.post(
        f"/api{path}", content=b"{", headers={"Content-Type": "application/json"}
    )
    problem_of(malformed, 400, "malformed")


def test_a_suspended_saga_is_retried_as_its_operator_saw_it(
    api: Served, operator: ApiClient, worker: Worker
) -> None:
    saga = suspended_order(api.engine, worker, "api-retried")
    seen = operator.get(f"/sagas/{saga}")
    seq = seen.json()["seq"]
    tried = operator.post(
        f"/sagas/{saga}/retry", {"note": "mail is back", "seq": seq, "dry_run": True}
    ).json()
    assert (tried["status"], tried["dry_run"], tried["undoing"]) == ("EXECUTING", True, None)
    assert operator.get(f"/sagas/{saga}").json()["status"] == "SUSPENDED"
    done = operator.post(
        f"/sagas/{saga}/retry", {"note": "mail is back"}, **{"If-Match": seen.headers["etag"]}
    )
    assert done.status_code == 200
    assert (done.json()["status"], done.json()["dry_run"]) == ("EXECUTING", False)
    login = api.engine.value("select session_user")
    assert act_of(api, saga) == ("retry", f"my-operator (token) via {login}", "mail is back")
    told = [fields for event, fields in api.events if event == "operator_act"]
    assert told[-1] == {"saga_id": str(saga), "act": "retry", "actor": "my-operator (token)"}

    # Whoever looked before is told what happened since, and changes nothing.
    late = {"note": "stop it", "seq": seq}
    refused = problem_of(operator.post(f"/sagas/{saga}/abort", late), 409, "stale")
    assert [one["what"] for one in refused["since"]] == [
        f"retry by my-operator (token) via {login}: mail is back, now EXECUTING"
    ]
    by_header = operator.post(
        f"/sagas/{saga}/abort", {"note": "stop it"}, **{"If-Match": f'"{seq}"'}
    )
    assert problem_of(by_header, 412, "precondition-failed")["since"] == refused["since"]
    assert act_of(api, saga)[0] == "retry"
    # That it does not fit is another refusal.
    fits_not = operator.post(f"/sagas/{saga}/resolve", {"note": "no", "status": "FAILED"})
    assert problem_of(fits_not, 409, "not-applicable")["since"] == []


def test_each_act_does_what_it_says(api: Served, operator: ApiClient, worker: Worker) -> None:
    def status_after(saga: Any, act: str, **body: Any) -> str:
        answer = operator.post(f"/sagas/{saga}/{act}", {"note": "because", **body})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["status"])

    saga = suspended_order(api.engine, worker, "api-skip")
    assert status_after(saga, "skip", result={"sent": 1}, step="mail") == "EXECUTING"
    assert status_after(saga, "pause") == "EXECUTING"
    assert operator.get(f"/sagas/{saga}").json()["paused"] is True
    assert status_after(saga, "resume") == "EXECUTING"
    assert status_after(saga, "amend", step="mail", result={"sent": 2}) == "EXECUTING"
    assert status_after(saga, "amend", input={"number": 9}) == "EXECUTING"
    seen = operator.get(f"/sagas/{saga}").json()
    assert seen["input"] == {"number": 9}
    refused = operator.post(f"/sagas/{saga}/cancel", {"note": "past its pivot"})
    problem_of(refused, 409, "not-applicable")
    would = operator.post(f"/sagas/{saga}/abort", {"note": "would", "dry_run": True}).json()
    assert [one["step"] for one in would["undoing"] if one["what"] == "undo"] == [
        "book", "charge", "reserve",
    ]  # fmt: skip
    assert status_after(saga, "cancel", force=True) == "COMPENSATING"
    put_aside(api)
    resolved = suspended_order(api.engine, worker, "api-resolve")
    assert status_after(resolved, "resolve", status="COMPLETED") == "COMPLETED"
    tried = operator.post(f"/sagas/{resolved}/rerun", {"note": "again", "dry_run": True})
    assert tried.status_code == 200
    problem_of(operator.http.get(tried.json()["links"]["saga"]), 404, "not-found")
    again = operator.post(f"/sagas/{resolved}/rerun", {"note": "again", "key": "api-rerun"})
    assert again.status_code == 202
    new = operator.http.get(again.headers["location"]).json()
    assert (new["key"], new["status"]) == ("api-rerun", "CREATED")
    by_header = operator.post(f"/sagas/{resolved}/rerun", {"note": "again"}, key="by-header")
    assert by_header.status_code == 202
    assert operator.get(by_header.headers["location"].removeprefix("/api")).json()["key"] == (
        "by-header"
    )
    twice = operator.post(f"/sagas/{resolved}/rerun", {"note": "again"}, key="by-header")
    problem_of(twice, 422, "key-conflict")
    taken = operator.post(f"/sagas/{resolved}/rerun", {"note": "again", "key": "api-rerun"})
    problem_of(taken, 422, "key-conflict")
    assert status_after(new["id"], "abort") == "FAILED"


def test_many_are_acted_on_after_a_dry_run(
    api: Served, operator: ApiClient, worker: Worker
) -> None:
    sagas = [suspended_order(api.engine, worker, f"api-many-{n}", "Flood") for n in range(3)]
    chosen = {"note": "after the flood", "error": "Flood", "type": "order"}
    resolve = {**chosen, "resolve_as": "COMPLETED"}
    tried = operator.post("/acts/resolve", {**resolve, "dry_run": True}).json()
    assert {one["id"] for one in tried["sagas"]} == set(map(str, sagas))
    assert {one["outcome"] for one in tried["sagas"]} == {"COMPLETED"}
    assert operator.get(f"/sagas/{sagas[0]}").json()["status"] == "SUSPENDED"
    done = operator.post("/acts/resolve", {**resolve, "limit": 2}).json()
    assert [one["problem"] for one in done["sagas"]] == [None, None]
    statuses = [operator.get(f"/sagas/{saga}").json()["status"] for saga in sagas]
    assert statuses == ["COMPLETED", "COMPLETED", "SUSPENDED"]
    assert act_of(api, sagas[0])[1].startswith("my-operator (token) via ")
    for body in ({"note": "n"}, {**chosen, "older_than": "soon"}, {**chosen, "limit": 0}):
        problem_of(operator.post("/acts/abort", body), 400, "invalid-input")
    problem_of(operator.post("/acts/explode", chosen), 404, "not-found")


def test_a_type_is_paused_and_goes_on(api: Served, operator: ApiClient) -> None:
    paused = operator.post("/types/purchase/pause", {"note": "the bank is closed"})
    assert paused.json()["type"] == "purchase"
    (row,) = api.engine.rows("select type, note from paused where type = 'purchase'")
    assert row.note == "the bank is closed"
    assert operator.post("/types/purchase/resume", {"note": "open"}).status_code == 200
    assert api.engine.value("select count(*) from paused where type = 'purchase'") == 0
    problem_of(operator.post("/types/none/pause", {"note": "n"}), 404, "not-found")


def test_a_types_sagas_move_to_another_version(api: Served, operator: ApiClient) -> None:
    for version in (1, 2):
        moving = Saga("moving", input=Order, version=version)
        moving.step(name="only", nothing_to_undo="it reads")(act)
        api.engine.register(moving)
    saga = api.engine.start("moving", "moves", number=1, version=1)
    move = {"note": "mend it", "from_version": 1, "to_version": 2}
    tried = operator.post("/types/moving/move", {**move, "dry_run": True}).json()
    assert [one["id"] for one in tried["sagas"]] == [str(saga)]
    assert api.engine.instance(saga).version == 1
    assert operator.post("/types/moving/move", move).status_code == 200
    assert api.engine.instance(saga).version == 2
    problem_of(operator.post("/types/moving/move", {**move, "to_version": 9}), 404, "unknown-type")


def test_an_event_is_delivered_once_more(api: Served, operator: ApiClient) -> None:
    path = "/subscriptions/nobody/redeliver"
    missing = operator.post(path, {"note": "n", "event": 1})
    assert "nobody" in problem_of(missing, 404, "not-found")["detail"]


def test_what_was_done_before_and_what_is_wrong_can_be_asked(
    api: Served, operator: ApiClient, viewer: ApiClient, worker: Worker
) -> None:
    saga = suspended_order(api.engine, worker, "api-past", "Elephants")
    operator.post(
        f"/sagas/{saga}/resolve", {"note": "led them out, pin=9876", "status": "COMPLETED"}
    )
    found = viewer.get("/resolutions", words="led them out", error="Elephants").json()
    assert [(one["id"], one["act"], one["status"]) for one in found["resolutions"]] == [
        (str(saga), "resolve", "COMPLETED")
    ]
    assert found["resolutions"][0]["note"] == "led them out, pin=••••••"
    assert viewer.get("/resolutions", words="nothing of the kind").json() == {"resolutions": []}
    api.engine.execute("select set_limit('order', 'all', 900, p_note => 'as agreed, pin=12')")
    (change,) = viewer.get("/changes", rule="limit", type="order").json()["changes"]
    assert (change["name"], change["before"], change["after"], change["note"]) == (
        *("all", None, {"amount": 900}, "as agreed, pin=••••••"),
    )
    assert viewer.get("/changes", rule="retention").json() == {"changes": []}
    api.engine.execute("select drop_limit('order', 'all')")
    told = viewer.get("/health").json()["findings"]
    listed = [tuple(row) for row in api.engine.connection.execute(
        "select severity, finding from health where severity <> 'info'").fetchall()]  # fmt: skip
    seen = [(one["severity"], one["finding"]) for one in told if one["severity"] != "info"]
    assert seen == listed


@pytest.mark.parametrize(
    ("act", "body", "said"),
    [
        ("retry", {}, "note"), ("retry", {"note": ""}, "note"), ("retry", {"note": "  "}, "note"),
        ("retry", {"note": "n", "sq": 1}, "sq"), ("retry", {"note": "n", "seq": "1"}, "seq"),
        ("retry", {"note": "n", "dry_run": "yes"}, "dry_run"), ("retry", [], "object"),
        ("retry", {"note": "a\0b"}, ""), ("resolve", {"note": "n", "status": "DONE"}, "status"),
        ("amend", {"note": "n"}, "either"), ("skip", {"note": "n", "step": "nope"}, "nope"),
        ("move", {"note": "n", "version": 9}, "9"),
        ("skip", {"note": "n", "result": 10**30}, "64-bit"),
        ("skip", {"note": "n", "result": json.loads("[" * 300 + "]" * 300)}, "JSON"),
        ("amend", {"note": "n", "input": {"number": "many"}}, "number"),
    ],
)  # fmt: skip
def test_an_act_that_cannot_be_is_refused_and_changes_nothing(
    api: Served, operator: ApiClient, act: str, body: Any, said: str
) -> None:
    saga = api.engine.start("order", "refuses", number=1)
    before = api.engine.history(saga)
    answer = operator.post(f"/sagas/{saga}/{act}", body)
    assert answer.status_code in (400, 404, 409), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert said in answer.json()["detail"]
    assert api.engine.history(saga) == before


def test_if_match_is_a_seq_that_agrees(api: Served, operator: ApiClient) -> None:
    saga = api.engine.start("order", "matched", number=1)
    for given in ("*", 'W/"1"', "x"):
        answer = operator.post(f"/sagas/{saga}/abort", {"note": "n"}, **{"If-Match": given})
        assert "If-Match" in problem_of(answer, 400, "malformed")["detail"]
    both = operator.post(f"/sagas/{saga}/abort", {"note": "n", "seq": 2}, **{"If-Match": '"1"'})
    problem_of(both, 409, "stale")


def test_what_was_masked_stays_where_an_amendment_leaves_it(
    api: Served, operator: ApiClient
) -> None:
    saga = start(api.engine, "purchase", "masked-1", customer="c", password="hunter2")
    shown = operator.get(f"/sagas/{saga}").json()["input"]
    assert shown["password"] == "••••••"
    amended = operator.post(
        f"/sagas/{saga}/amend", {"note": "a new name", "input": {**shown, "customer": "d"}}
    )
    assert amended.status_code == 200, amended.text
    assert api.engine.instance(saga).input == {"customer": "d", "password": "hunter2"}

"""What an operator does, and what becomes of it."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from tests.sql.engine import Worker
from tests.web.conftest import Browser, Served, text_of
from tests.web.world import error, start, suspended_order


@pytest.fixture(scope="module")
def worker(served: Served) -> Worker:
    return served.engine.worker("order", lease=timedelta(hours=1))


@pytest.fixture(scope="module")
def buyer(served: Served) -> Worker:
    return served.engine.worker("purchase", lease=timedelta(hours=1))


def send(browser: Browser, saga: Any, act: str, **fields: Any) -> httpx.Response:
    """Sends the form of an act, with what its page has in it."""
    page = browser.get(f"/sagas/{saga}").text
    seq = re.search(r'name="seq" value="(\d+)"', page)
    token = re.search(r'name="csrf" value="([^"]+)"', page)
    assert token
    given = {"csrf": token[1], "note": "because", **({"seq": seq[1]} if seq else {}), **fields}
    return browser.http.post(f"/admin/sagas/{saga}/acts/{act}", data=given)


def said_after(browser: Browser, answer: httpx.Response) -> str:
    """The message on the page that an act leads to; it is there once."""
    assert answer.status_code == 303, text_of(answer)
    page = browser.http.get(answer.headers["location"])
    found = re.search(r'class="flash good"[^>]*>.*?<span>(.*?)</span>', page.text, re.S)
    assert found, text_of(page)
    assert 'class="flash good"' not in browser.http.get(answer.headers["location"]).text
    return unescape(found[1])


def status_of(served: Served, saga: Any) -> str:
    return str(served.engine.value("select status from overview where saga_id = %s", saga))


def act_of(served: Served, saga: Any) -> SimpleNamespace:
    """The latest act in the trail that the command line's acts are in as well."""
    (found,) = served.engine.rows(
        "select act, actor, note, detail from acts where saga_id = %s order by seq desc limit 1",
        saga,
    )
    return found


def test_a_suspended_saga_is_retried_and_resolved(
    served: Served, operator: Browser, worker: Worker
) -> None:
    saga = suspended_order(served.engine, worker, "retried")
    assert said_after(operator, send(operator, saga, "retry", note="mail is back")) == (
        "Retried: the saga is EXECUTING now."
    )
    login = served.engine.value("select session_user")
    assert vars(act_of(served, saga)) == {
        "act": "retry", "actor": f"ann via {login}", "note": "mail is back", "detail": None,
    }  # fmt: skip
    worker.say(worker.claim_one(), "rejected", error=error("Boom", "again"), no_effect=True)
    assert "waits for a person" in text_of(operator.get(f"/sagas/{saga}"))
    said_after(operator, send(operator, saga, "resolve", status="COMPLETED", note="by phone"))
    assert status_of(served, saga) == "COMPLETED"
    assert "resolve by ann" in text_of(operator.get(f"/sagas/{saga}"))
    past = text_of(operator.get("/interventions/past", words="phone"))
    assert "by phone" in past
    assert "Nothing like it" in text_of(operator.get("/interventions/past", words="elephants"))


def test_an_act_on_what_has_moved_on_is_refused_and_says_what_happened(
    served: Served, operator: Browser, worker: Worker
) -> None:
    saga = suspended_order(served.engine, worker, "moved")
    old = re.search(r'name="seq" value="(\d+)"', operator.get(f"/sagas/{saga}").text)
    assert old
    served.engine.retry(saga, "somebody else was faster: pin=note-secret")
    worker.say(worker.claim_one(), "rejected", error=error("Boom", "again"), no_effect=True)
    answer = send(operator, saga, "skip", seq=old[1], note="my note", result='{"a": 1}')
    assert answer.status_code == 409
    said = text_of(answer)
    assert "The skip was refused; nothing was changed." in said
    assert "has moved on" in said
    assert "somebody else was faster" in said
    assert "note-secret" not in answer.text + operator.get(f"/sagas/{saga}").text
    assert "mail: rejected" in said
    assert 'value="my note"' in answer.text, "what was filled in is still there"
    assert status_of(served, saga) == "SUSPENDED"
    said_after(operator, send(operator, saga, "skip", note="now", result='{"a": 1}'))
    assert status_of(served, saga) == "EXECUTING"
    worker.say(worker.claim_one(), "done")


def test_what_cannot_be_done_is_said_and_changes_nothing(
    served: Served, operator: Browser, worker: Worker
) -> None:
    saga = suspended_order(served.engine, worker, "wrong")
    before = served.engine.everything()
    for act, fields, code, said in (
        ("retry", {"note": "  "}, 400, "the field 'note' is empty"),
        ("skip", {"result": "{"}, 400, "the result is malformed JSON"),
        ("resolve", {}, 400, "the field 'status' is empty"),
        ("resolve", {"status": "LOST"}, 400, "not as 'LOST'"),
        ("retry", {"seq": "x"}, 400, "'x' is not the seq"),
        ("retry", {"note": "a\0b"}, 400, "NUL"),
        ("amend", {"value": "[]"}, 400, "an input is a JSON object"),
        ("amend", {"value": '{"number": "x"}'}, 400, "number"),
        ("amend", {"value": '{"number": 1, "n": 36893488147419103233}'}, 400, "64-bit"),
        ("amend", {"value": f'{{"number": 1, "n": {"[" * 900}{"]" * 900}}}'}, 400, "deep"),
        ("amend", {"value": f'{{"number": 1, "n": {"[" * 300}{"]" * 300}}}'}, 400, "254 levels"),
        ("skip", {"result": "36893488147419103233"}, 400, "64-bit"),
        ("signal", {"name": "approved"}, 400, "waits for a signal"),
        ("rerun", {}, 409, "has not ended"),
        ("resume", {}, 409, "not paused"),
        ("explode", {}, 404, "there is no act 'explode'"),
    ):
        answer = send(operator, saga, act, **fields)
        assert answer.status_code == code, (act, text_of(answer))
        assert said in text_of(answer), (act, text_of(answer))
    large = send(operator, saga, "retry", note="x" * 2_000_000)
    assert large.status_code == 413
    assert served.engine.everything() == before
    served.engine.resolve(saga, "FAILED")


def test_the_undo_is_shown_before_it_is_done(
    served: Served, operator: Browser, worker: Worker
) -> None:
    saga = suspended_order(served.engine, worker, "undone")
    page = operator.get(f"/sagas/{saga}").text
    undoing = re.search(r'<ol class="undoing">(.*?)</ol>', page, re.S)
    assert undoing
    steps = re.findall(r"<b>(\w+)</b> (\w+)", undoing[1])
    assert steps[:3] == [("undoes", "book"), ("undoes", "charge"), ("undoes", "reserve")]
    assert ("keeps", "inspect") in steps
    said_after(operator, send(operator, saga, "abort", note="all of it"))
    held = worker.claim_one()
    while held.fence is not None:
        held = worker.say(held, "done")
    assert status_of(served, saga) == "FAILED"
    answer = send(operator, saga, "rerun", note="once more", key="undone-2")
    assert answer.status_code == 303
    assert status_of(served, served.engine.value(
        "select saga_id from overview where key = 'undone-2'")) == "CREATED"  # fmt: skip
    again = send(operator, saga, "rerun", note="once more", key="undone-2")
    assert again.status_code == 409, text_of(again)
    assert "undone-2" in text_of(again)
    # A form that is sent twice starts it anew once; the page has another one after that.
    for number in (2, 3):
        page = operator.get(f"/sagas/{saga}").text
        key = re.search(r'name="next_key" value="([^"]+)"', page)
        assert key
        assert key[1] == f"undone/rerun/{number}"
        assert send(operator, saga, "rerun", next_key=key[1]).status_code == 303
        twice = send(operator, saga, "rerun", next_key=key[1])
        assert twice.status_code == 409, text_of(twice)
    served.engine.execute(
        "select abort(saga_id, 'tidy') from overview where status = 'CREATED' and key ^@ 'undone'"
    )


def test_secrets_survive_an_amendment_of_what_hides_them(
    served: Served, operator: Browser, buyer: Worker
) -> None:
    saga = start(
        served.engine, "purchase", "amended", customer="old", password="hunter2",
        cards=[{"card": "1"}, {"card": "2"}],
    )  # fmt: skip
    served.engine.execute("select pause_saga(%s, 'wait')", saga)
    shown = re.search(
        r'<textarea name="value"[^>]*>(.*?)</textarea>', operator.get(f"/sagas/{saga}").text, re.S
    )
    assert shown
    text = unescape(shown[1])
    assert "hunter2" not in text
    edited = text.replace('"old"', '"new"')
    assert edited != text
    said_after(operator, send(operator, saga, "amend", value=edited))
    found = served.engine.value("select input from overview where saga_id = %s", saga)
    assert found["customer"] == "new"
    assert found["password"] == "hunter2"
    assert [one["card"] for one in found["cards"]] == ["1", "2"]
    moved = edited.replace('"new"', '"••••••"')
    refused = send(operator, saga, "amend", value=moved)
    assert refused.status_code == 400
    assert "at customer stands" in text_of(refused)
    served.engine.execute("select cancel(%s, 'tidy')", saga)


def test_a_signal_is_sent_once(served: Served, operator: Browser, buyer: Worker) -> None:
    saga = start(served.engine, "purchase", "signalled")
    held = buyer.say(buyer.claim_one(), "done", result="1")
    assert held.step == "approved"
    buyer.say(held, "waiting", result='{"await": "signal"}')
    fields = {"name": "approved", "payload": '{"by": "ann"}', "key": "k1"}
    assert "was delivered" in said_after(operator, send(operator, saga, "signal", **fields))
    assert "nothing was changed" in said_after(operator, send(operator, saga, "signal", **fields))
    (row,) = served.engine.rows("select actor, payload from signals where saga_id = %s", saga)
    assert row.actor.startswith("ann via ")
    assert row.payload == {"by": "ann"}
    served.engine.execute("select cancel(%s, 'tidy')", saga)


def test_pause_and_resume(served: Served, operator: Browser) -> None:
    saga = start(served.engine, "purchase", "paused")
    said_after(operator, send(operator, saga, "pause", note="look first"))
    assert "Paused" in text_of(operator.get(f"/sagas/{saga}"))
    (row,) = served.engine.rows("select actor, note from paused where saga_id = %s", saga)
    assert row.actor.startswith("ann via ")
    said_after(operator, send(operator, saga, "resume", note="looked"))
    assert not served.engine.rows("select from paused where saga_id = %s", saga)
    served.engine.execute("select cancel(%s, 'tidy')", saga)


def hidden(answer: httpx.Response) -> dict[str, str]:
    """The hidden fields of a page's confirmation."""
    form = re.search(r'class="confirm">(.*?)</form>', answer.text, re.S)
    assert form, text_of(answer)
    return {
        name: unescape(value)
        for name, value in re.findall(r'name="([^"]+)" value="([^"]*)"', form[1])
    }


def test_many_are_acted_on_after_a_dry_run(
    served: Served, operator: Browser, worker: Worker
) -> None:
    sagas = [suspended_order(served.engine, worker, f"bulk-{n}", "Outage") for n in range(3)]
    other = suspended_order(served.engine, worker, "bulk-other", "Other")
    queue = operator.get("/interventions", type="order", step="mail", error="Outage")
    assert all(f"bulk-{n}" in text_of(queue) for n in range(3))
    assert "bulk-other" not in text_of(queue)
    groups = dict(
        re.findall(r'class="group" href="[^"]*error=(\w+)"[^>]*><b>(\d+)</b>', queue.text)
    )
    assert groups == {"Outage": "3", "Other": "1"}

    asked = {
        "act": "retry",
        "type": "order",
        "step": "mail",
        "error": "Outage",
        "note": "it is over",
    }
    plan = operator.post("/interventions/plan", page="/interventions", **asked)
    assert plan.status_code == 200
    assert "Retry: 3 sagas" in text_of(plan)
    assert {status_of(served, saga) for saga in sagas} == {"SUSPENDED"}, "nothing was changed"

    # What has changed meanwhile stops all of it.
    late = suspended_order(served.engine, worker, "bulk-late", "Outage")
    changed = operator.http.post("/admin/interventions/act", data=hidden(plan))
    assert changed.status_code == 409
    assert "nothing was done" in text_of(changed)
    assert {status_of(served, saga) for saga in [*sagas, late]} == {"SUSPENDED"}
    done = operator.http.post("/admin/interventions/act", data=hidden(changed))
    assert done.status_code == 200, text_of(done)
    assert "done for 4 of 4" in text_of(done)
    assert {status_of(served, saga) for saga in [*sagas, late]} == {"EXECUTING"}
    assert status_of(served, other) == "SUSPENDED"
    assert {act_of(served, saga).actor for saga in sagas} == {act_of(served, late).actor}
    assert act_of(served, late).actor.startswith("ann via ")
    for _ in (*sagas, late):
        worker.say(worker.claim_one(), "done")

    for fields, said in (
        ({"act": "explode", "note": "x"}, "there is no act 'explode'"),
        ({"act": "retry", "note": ""}, "'note' is empty"),
        ({"act": "retry", "note": "x", "older_than": "long"}, "'long' is not a duration"),
        ({"act": "skip", "note": "x", "result": "{"}, "malformed JSON"),
        ({"act": "resolve", "note": "x", "resolve_as": ""}, "'resolve as' is empty"),
    ):
        refused = operator.post("/interventions/plan", page="/interventions", **fields)
        assert refused.status_code == 400
        assert said in text_of(refused)
    nothing = operator.post(
        "/interventions/plan", page="/interventions", act="retry", note="x", type="purchase"
    )
    assert "No saga fits" in text_of(nothing)


def test_limits_and_pauses_of_a_type(served: Served, operator: Browser) -> None:
    fields = {"page": "/types/order", "note": "the bank is <slow>"}
    assert operator.post("/types/order/limits", name="all", amount="7", **fields).status_code == 303
    operator.post("/types/order/limits", name="rate", amount="9", per="90s", **fields)
    operator.post(
        "/types/order/limits", name="each", amount="2", key="number", counts_waiting="yes", **fields
    )
    found = served.engine.rows(
        "select name, amount, per, key, counts_waiting from limits "
        "where type = 'order' order by name"
    )
    assert [(r.name, r.amount, r.per, r.key, r.counts_waiting) for r in found] == [
        ("all", 7, None, None, False),
        ("each", 2, None, "number", True),
        ("rate", 9, timedelta(seconds=90), None, False),
    ]
    page = text_of(operator.get("/types/order"))
    assert "7 at once" in page
    assert "amount 9 , per 90 ann via" in page
    assert "the bank is <slow>" in page
    unsaid = operator.post(
        "/types/order/limits", name="all", amount="8", page="/types/order", note=" "
    )
    assert unsaid.status_code == 400
    assert "note" in text_of(unsaid)
    for bad, said in (
        ({"amount": "-1"}, "not a whole number"),
        ({"amount": "x"}, "not a whole number"),
        ({"amount": "1", "per": "ages"}, "not a duration"),
    ):
        refused = operator.post("/types/order/limits", name="bad", **bad, **fields)
        assert refused.status_code == 400
        assert said in text_of(refused)
    for name in ("all", "rate", "each"):
        assert operator.post("/types/order/limits/drop", name=name, **fields).status_code == 303
    assert operator.post("/types/order/limits/drop", name="all", **fields).status_code == 404
    assert operator.post("/types/none/limits", name="a", amount="1", **fields).status_code == 400

    assert "limit all drop gone" in text_of(operator.get("/types/order"))
    (who,) = served.engine.rows(
        "select distinct actor, note from rule_changes where rule = 'limit'"
    )
    assert (who.actor.split(" via ")[0], who.note) == ("ann", "the bank is <slow>")

    fields = {"page": "/types/order"}
    operator.post("/types/order/pause", note="outage", **fields)
    assert "outage" in text_of(operator.get("/types/order"))
    assert "outage" in text_of(operator.get("/health"))
    assert operator.post("/types/order/pause", note="again", **fields).status_code == 409
    assert operator.post("/types/order/resume", note="over", **fields).status_code == 303
    assert not served.engine.rows("select from paused")


def test_schedules(served: Served, operator: Browser) -> None:
    given = {"name": "nightly", "type": "order", "cron": "0 3 * * *", "zone": "Europe/Berlin",
             "input": '{"number": 5}', "catch_up": "none", "page": "/schedules",
             "note": "the auditors"}  # fmt: skip
    assert operator.post("/schedules", **given).status_code == 303
    (row,) = served.engine.rows("select cron, zone, catch_up, input, paused from schedules")
    assert vars(row) == {"cron": "0 3 * * *", "zone": "Europe/Berlin", "catch_up": "none",
                         "input": {"number": 5}, "paused": False}  # fmt: skip
    assert "nightly" in text_of(operator.get("/schedules"))
    for bad, said in (
        ({"cron": "often"}, "not a cron expression"),
        ({"zone": "Mars"}, "Mars"),
        ({"input": "[1]"}, "a JSON object"),
        ({"input": "{"}, "malformed JSON"),
        ({"input": '{"number": 36893488147419103233}'}, "64-bit"),
        ({"type": "nothing"}, "unknown saga type"),
    ):
        refused = operator.post("/schedules", **{**given, **bad})
        assert refused.status_code == 400, bad
        assert said in text_of(refused)
    for act, paused in (("pause", True), ("resume", False)):
        assert (
            operator.post(
                f"/schedules/{act}", page="/schedules", name="nightly", note="holidays"
            ).status_code
            == 303
        )
        assert served.engine.value("select paused from schedules") is paused
    unsaid = operator.post("/schedules/drop", page="/schedules", name="nightly")
    assert unsaid.status_code == 400
    operator.post("/schedules/drop", page="/schedules", name="nightly", note="no more")
    page = text_of(operator.get("/schedules"))
    for said in ("no more", "holidays", "the auditors", "paused true → none"):
        assert said in page
    assert not served.engine.rows("select from schedules")


def test_who_acted_is_logged(served: Served, operator: Browser) -> None:
    saga = start(served.engine, "order", "logged", number=1)
    before = len(served.events)
    assert send(operator, saga, "cancel").status_code == 303
    acts = [fields for event, fields in served.events[before:] if event == "operator_act"]
    assert acts == [{"saga_id": str(saga), "act": "cancel", "actor": "ann"}]

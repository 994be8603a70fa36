"""The database's answers get lost, or it is away: whoever asks is told so, and asks again."""

from __future__ import annotations

from tests.fixtures import Schema
from tests.postgres.proxy import CommitDroppingProxy
from tests.web.api.conftest import TOKENS, ApiClient, problem_of
from tests.web.conftest import Served, serving, text_of


def test_a_start_whose_commit_was_not_heard_of_is_the_same_saga_when_sent_again(
    api: Served, proxy: CommitDroppingProxy
) -> None:
    schema = api.engine.schema
    schema = Schema(proxy.before(schema.dsn), schema.name)
    with serving(schema, tokens=TOKENS) as served:
        client = ApiClient(served.base, "operator")
        assert client.get("/sagas").is_success
        proxy.drop_after_commit()
        lost = client.post("/sagas/order", {"number": 3}, key="lost")
        problem_of(lost, 503, "unavailable")
        assert lost.headers["retry-after"]
        assert proxy.struck == ["after commit"]
        again = client.post("/sagas/order", {"number": 3}, key="lost")
        assert (again.status_code, again.json()["created"]) == (202, False)
        assert api.engine.value("select count(*) from instance where key = 'lost'") == 1

        # An act that carries the seq is not done twice either: it is told that it was done.
        saga = again.json()["id"]
        note = {"note": "hold it", "seq": client.get(f"/sagas/{saga}").json()["seq"]}
        proxy.drop_after_commit()
        problem_of(client.post(f"/sagas/{saga}/abort", note), 503, "unavailable")
        refused = client.post(f"/sagas/{saga}/abort", note)
        assert refused.status_code == 409, refused.text
        acts = api.engine.rows("select act from acts where saga_id = %s", saga)
        assert [one.act for one in acts] == ["abort"]

        # A form has no key: whoever sent it is told to look.
        browser = served.browser("ann")
        form = {"csrf": browser.token("/workers"), "name": "unheard", "type": "order",
                "cron": "0 3 * * *", "input": '{"number": 1}', "note": "at night"}  # fmt: skip
        proxy.drop_after_commit()
        unheard = browser.http.post("/admin/schedules", data=form)
        assert unheard.status_code == 503
        assert "Whether this was done is not known" in text_of(unheard)
        api.engine.execute("select drop_schedule('unheard')")

        proxy.refuse()
        away = client.get("/sagas")
        problem_of(away, 503, "unavailable")
        assert client.http.get("/metrics").text.count("outbox_database_up 0.0") == 1
        proxy.refuse(False)
        assert client.post("/sagas/order", {"number": 3}, key="lost").status_code == 202

"""The server's login needs the role operator, and no more."""

from __future__ import annotations

import contextlib
from datetime import timedelta

from psycopg.conninfo import make_conninfo

from tests.fixtures import Schema, fresh_schema
from tests.web.api.conftest import TOKENS, ApiClient, problem_of
from tests.web.conftest import serving
from tests.web.sagas import ORDER, PURCHASE
from tests.web.world import suspended_order

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_an_operators_login_can_do_all_of_it_and_a_viewers_says_what_it_lacks(
    postgres_dsn: str,
) -> None:
    with fresh_schema(postgres_dsn, roles=True) as schema:

        def seen_as(role: str) -> Schema:
            options = f"-c role={schema.name}_{role}"
            return Schema(make_conninfo(schema.dsn, options=options), schema.name)

        with (
            serving(seen_as("operator"), tokens=TOKENS) as served,
            contextlib.closing(schema.connect()) as owner,
        ):
            served.engine.connection = owner
            served.engine.register(ORDER, PURCHASE)
            client = ApiClient(served.base, "operator")
            worker = served.engine.worker("order", lease=timedelta(hours=1))
            stopped = suspended_order(served.engine, worker, "stopped")
            started = client.post("/sagas/order", {}, key="o-1", traceparent=PARENT)
            assert started.status_code == 202, started.text
            assert client.post("/sagas/order", {}, key="o-1").json()["created"] is False
            bought = client.start("p-1", "purchase")
            for path in ("/sagas", f"/sagas/{stopped}", f"/sagas/{stopped}/timeline",
                         "/openapi.json"):  # fmt: skip
                assert client.get(path).status_code == 200, path
            told = client.post(f"/sagas/{bought}/signals/approved", {}, key="s")
            assert told.json()["outcome"] == "kept"
            assert client.post(f"/sagas/{bought}/signals/approved", {}, key="s").is_success
            note = {"note": "by the book"}
            for path, body in (
                (f"/sagas/{stopped}/abort", {**note, "dry_run": True}),
                (f"/sagas/{stopped}/retry", note),
                (f"/sagas/{bought}/pause", note),
                ("/acts/pause", {**note, "type": "order"}),
                ("/types/order/pause", note),
            ):
                answer = client.post(path, body)
                assert answer.status_code == 200, answer.text
            metrics = client.http.get("/metrics").text
            assert "outbox_database_up 1.0" in metrics
        with serving(seen_as("viewer"), tokens=TOKENS) as served:
            client = ApiClient(served.base, "operator")
            assert client.get(f"/sagas/{stopped}").is_success
            refused = problem_of(client.post("/sagas/order", {}, key="x"), 500, "internal-error")
            assert "_operator" in refused["detail"]

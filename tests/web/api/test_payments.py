"""Payments through the API and real workers: asked for many times, paid once."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.fixtures import Schema
from tests.payments.world import World, all_is_well, make_payment
from tests.web.api.conftest import TOKENS, ApiClient
from tests.web.conftest import serving


def follow(client: ApiClient, saga: str) -> list[dict[str, Any]]:
    """What a saga's stream says, to its end."""
    told = []
    with client.http.stream("GET", f"/api/sagas/{saga}/events", timeout=60) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: "):
                told.append(json.loads(line.removeprefix("data: ")))
    return told


def test_payments_are_followed_to_their_ends_and_paid_once(
    postgres_dsn: str, tmp_path: Path
) -> None:
    wanted = {
        "paid": make_payment(),
        "declined": make_payment(payment_method="pm_card_chargeDeclined"),
    }
    with World(postgres_dsn, tmp_path) as world:
        world.payments.update(wanted)
        world.worker().ready()
        with serving(Schema(postgres_dsn, world.schema), tokens=TOKENS) as served:

            def pay(key: str) -> str:
                client = ApiClient(served.base, "starter")
                body = wanted[key].model_dump(mode="json", exclude_unset=True)
                answer = client.post("/payments", body, key=key)
                assert answer.status_code == 202, answer.text
                return str(answer.json()["id"])

            with ThreadPoolExecutor(6) as pool:
                ids = dict(zip(list(wanted) * 6, pool.map(pay, list(wanted) * 6), strict=True))
                followers = {
                    key: pool.submit(follow, ApiClient(served.base, "viewer"), saga)
                    for key, saga in ids.items()
                }
                ends = {key: one.result(90) for key, one in followers.items()}
        paid, declined = ends["paid"], ends["declined"]
        assert (paid[-1]["status"], declined[-1]["status"]) == ("COMPLETED", "FAILED")
        steps = [one["step"] for one in paid[1:-1]]
        assert steps == ["create_intent", "authorize", "update_ledger", "send_confirmation"]
        assert [(one["step"], one["kind"]) for one in declined[-2:-1]] == [
            ("create_intent", "compensation")
        ]
        all_is_well(world)

"""Sagas in every condition, made by the SQL functions alone."""

from __future__ import annotations

import json
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from psycopg.types.json import Jsonb

from tests.sql.engine import Engine, Worker
from tests.web.sagas import PURCHASE

MARKUP = '<script>alert("x")</script><img src=x onerror=alert(1)>&amp;\'"'
SECRETS = (
    "4242-4242",
    "hunter2",
    "tok-xyz",
    "sk-live-9",
    "DE89-3704",
    "pass-in-error",
    "by-hand-7",
)


def error(kind: str, message: str, **more: Any) -> str:
    return json.dumps({"type": kind, "message": message, **more})


def start(engine: Engine, type_: str, key: str, **given: Any) -> Any:
    return engine.value("select start(%s, %s, %s)", type_, Jsonb(given), key)


def suspended_order(engine: Engine, worker: Worker, key: str, kind: str = "Boom") -> Any:
    """An order that stopped for a person at its mail."""
    saga = start(engine, "order", key, number=1)
    held = worker.do(worker.claim_one(), until="mail")
    worker.say(held, "rejected", error=error(kind, "it broke"), no_effect=True)
    assert engine.value("select status from overview where saga_id = %s", saga) == "SUSPENDED"
    return saga


def make_world(engine: Engine) -> SimpleNamespace:
    """One saga of each kind; every one is settled or waits, so that nothing moves on its own."""
    worker = engine.worker("order", lease=timedelta(hours=1))
    buyer = engine.worker(PURCHASE.type, lease=timedelta(hours=1))
    world = SimpleNamespace(worker=worker, buyer=buyer)

    world.completed = start(engine, "order", "done-1", number=1)
    held = worker.do(worker.claim_one(), until="archive")
    worker.say(held, "done", result='{"api_key": "sk-live-9", "place": "shelf"}')

    world.failed = start(engine, "order", "failed-1", number=2)
    held = worker.do(worker.claim_one(), until="charge")
    held = worker.say(
        held,
        "rejected",
        no_effect=True,
        error=error("Declined", f"card declined: password=pass-in-error {MARKUP}", token="tok-xyz"),
    )
    while held.fence is not None:
        held = worker.say(held, "done")

    world.suspended = suspended_order(engine, worker, "stopped-1")

    # Markup and secrets in whatever a user can write.
    world.marked = start(
        engine,
        "purchase",
        MARKUP,
        customer=MARKUP,
        password="hunter2",
        payment={
            "cardNumber": "4242-4242",
            "IBAN": ["DE89-3704"],
            "lines": [{"api_token": "tok-xyz"}],
        },
    )
    held = buyer.claim_one()
    result = json.dumps({"said": MARKUP, "client_secret": "sk-live-9"})
    held = buyer.say(held, "done", result=result)
    assert held.step == "approved"
    buyer.say(held, "waiting", result='{"await": "signal"}')
    engine.value(
        "select signal(%s, 'approved', %s::json, 'k')",
        world.marked,
        json.dumps({"note": MARKUP, "pin": "by-hand-7"}),
    )
    buyer.release(buyer.claim_one())

    world.running = start(engine, "purchase", "running-1")
    buyer.claim(2)
    world.created = start(engine, "purchase", "created-1")
    engine.execute("select pause_saga(%s, %s)", world.created, f"hold it {MARKUP}")
    engine.execute(
        "select set_schedule('nightly', 'purchase', '0 3 * * *', 'UTC', %s)",
        Jsonb({"customer": MARKUP, "token": "tok-xyz"}),
    )
    return world

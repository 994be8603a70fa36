"""The saga types of these tests; their handlers are never called."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict

from outbox import Command, Limit, Retry, Saga
from tests.sql.sagas import ORDER as ORDER


class Purchase(BaseModel):
    """Something with secrets in it."""

    model_config = ConfigDict(extra="allow")

    customer: str = "cus_1"


async def act(cmd: Command[Purchase]) -> Any: ...


def make_purchase() -> Saga[Purchase]:
    """A step, a wait, a choice, a group, the pivot, and one behind it."""
    saga = Saga("purchase", input=Purchase, limits=[Limit(50)])
    hold = saga.step(name="hold", state="HELD", retry=Retry(3, 1, 60))(act)
    hold.compensation()(act)
    saga.wait_for("approved", timeout=timedelta(days=2))
    with saga.parallel("tell"):
        saga.step(name="letter", nothing_to_undo="a letter")(act)
        saga.step(name="ledger", nothing_to_undo="a row")(act)
    saga.step(name="pay", state="PAID", pivot=True)(act)
    saga.step(name="thank", retry=Retry(1, 1, 60))(act)
    return saga


PURCHASE = make_purchase()

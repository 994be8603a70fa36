"""Routes of an application, as its author writes them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from outbox import OutboxError, Started
from outbox.api import Call, Route


class Booking(BaseModel):
    number: int = Field(ge=0, le=1_000_000)
    password: str = "none"


async def book(call: Call[Booking]) -> Started:
    """Book a number, in a row of ours and in a saga, or in neither."""
    await call.connection.execute("create table if not exists public.booking (number int)")
    await call.connection.execute("insert into public.booking values (%s)", (call.body.number,))
    return await call.start("order", {"number": call.body.number})


async def find_booking(call: Call[None]) -> Any:
    """Say who asks, and for what."""
    return {"caller": call.caller, "order": call.path["order"], "query": dict(call.query)}


async def forget(call: Call[None]) -> None:
    """Say nothing."""


async def fail(call: Call[None]) -> None:
    """Break."""
    if call.query.get("how") == "refuse":
        raise OutboxError("a secret of ours")
    raise RuntimeError("broken")


routes = [
    Route("POST", "/api/bookings", book, body=Booking),
    Route("GET", "/api/bookings/{order}", find_booking, query={"colour": "which it is"}),
    Route("DELETE", "/api/bookings/{order}", forget, role="operator"),
    Route("GET", "/api/broken", fail, query={"how": "it breaks"}),
]

"""The payment saga's own route: ``POST /api/payments``. A server that starts payments needs neither
the provider nor the mail host, so nothing of them is imported."""

from __future__ import annotations

from outbox import Started
from outbox.api import Call, Route
from steps.model import Payment


async def create_payment(call: Call[Payment]) -> Started:
    """Take a customer's money for a merchant.

    The header `Idempotency-Key` is the number of the order that is paid: it is paid once.
    """
    return await call.start("payment", call.body)


routes = [Route("POST", "/api/payments", create_payment, body=Payment)]

"""An order: goods reserved, paid, shipped and invoiced, delivered; or nothing of it.

1. *reserve*, once for each line, three at a time: the warehouse keeps the goods. Undone by
   releasing them; where an answer was lost, what the line's reference finds is released.
2. *pay*: the payment saga, as it is. To undo the step is to undo that saga: its ledger entry is
   reversed and its reservation of money voided, though it had passed its own pivot.
3. *fulfil*, side by side: *ship* books the carrier, *invoice* writes an invoice, numbered without
   gaps, in the transaction that records the step. A number once given cannot be taken back, so the
   invoice is undone by a credit note.
4. *dispatch*: the order goes on the list by which the warehouse hands parcels over. **This is the
   pivot**: until somebody picks the goods up, everything can still be taken back; afterwards
   nothing can, and nothing that is left to do is a reason to. It is a step of its own because the
   pivot divides one line into before and after: in the group, the other branch would be neither,
   and a step for each element has no single moment at which it is done. And it is transactional,
   so that nobody ever has to ask whether it has happened.
5. *delivered*: the carrier says so, by a webhook (``steps.webhooks``), perhaps before we ask. If it
   does not within two weeks, a person looks for the parcel.
6. *thank*: a mail, if there is an address. Nobody is bothered with it when it cannot be sent.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

import psycopg
from pydantic import BaseModel, ConfigDict, Field

from outbox import App, Command, Saga
from steps.mail import Mailer, format_amount
from steps.model import Payment
from steps.partners import Booking, Partners, reference_of
from steps.payment import payment
from steps.settings import ExampleSettings
from steps.shop import Shop
from steps.surroundings import FORWARD, UNDO, surroundings

WAREHOUSE, CARRIER = "warehouse", "carrier"


class Line(BaseModel):
    """So many of something."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sku: Annotated[str, Field(min_length=1, max_length=100)]
    count: Annotated[int, Field(gt=0, le=1000)]
    price: Annotated[int, Field(gt=0, description="of one, in the smallest unit of the currency")]


class Order(BaseModel):
    """What somebody orders."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lines: Annotated[tuple[Line, ...], Field(min_length=1, max_length=100)]
    address: Annotated[str, Field(min_length=1, max_length=500)]
    merchant: Annotated[str, Field(min_length=1, max_length=100)]
    customer: Annotated[str, Field(min_length=1, max_length=100)]
    payment_method: Annotated[str, Field(min_length=1, max_length=100)]
    currency: Annotated[str, Field(pattern="^[a-z]{3}$")] = "eur"
    email: Annotated[str | None, Field(max_length=254)] = None
    warehouse_fault: Annotated[str | None, Field(description="for each line's requests")] = None
    payment_fault: str | None = None
    carrier_fault: str | None = None

    @property
    def total(self) -> int:
        """In the smallest unit of the currency."""
        return sum(line.count * line.price for line in self.lines)


class Delivered(BaseModel):
    """What the carrier says."""

    booking: str
    at: float


class Invoice(BaseModel):
    """An invoice, or the credit note that takes it back."""

    number: int


order = Saga("order", input=Order, version=1)


@order.step(
    each=lambda cmd: cmd.input.lines, concurrency=3, state="RESERVED", retry=FORWARD, timeout=5
)
async def reserve(cmd: Command[Order], line: Line) -> Booking:
    """Have the warehouse keep the goods of a line."""
    return await cmd.resource(Partners).book(
        WAREHOUSE,
        f"{line.count} x {line.sku}",
        reference=reference_of(cmd.saga_id, cmd.element),
        idempotency_key=cmd.idempotency_key,
        fault=cmd.input.warehouse_fault,
    )


@reserve.compensation(retry=UNDO, timeout=5)
async def release(cmd: Command[Order], line: Line) -> None:
    """Have the warehouse release them."""
    await cmd.resource(Partners).cancel_all(
        WAREHOUSE, cmd.find_result(reserve), reference_of(cmd.saga_id, cmd.element)
    )


def payment_of(cmd: Command[Order]) -> Payment:
    """What the order costs; the thank-you mail of this saga is its only mail."""
    return Payment(
        amount=cmd.input.total,
        currency=cmd.input.currency,
        merchant=cmd.input.merchant,
        customer=cmd.input.customer,
        payment_method=cmd.input.payment_method,
        sandbox_fault=cmd.input.payment_fault,
    )


order.run("pay", payment, input=payment_of, state="PAID")

with order.parallel("fulfil", state="FULFILLED"):

    @order.step(retry=FORWARD, timeout=5)
    async def ship(cmd: Command[Order]) -> Booking:
        """Book the carrier, who tells us when it has delivered."""
        return await cmd.resource(Partners).book(
            CARRIER,
            cmd.input.address,
            reference=reference_of(cmd.saga_id),
            idempotency_key=cmd.idempotency_key,
            callback_url=cmd.resource(ExampleSettings).callback_url,
            fault=cmd.input.carrier_fault,
        )

    @ship.compensation(retry=UNDO, timeout=5)
    async def call_off(cmd: Command[Order]) -> None:
        """Cancel the carrier."""
        await cmd.resource(Partners).cancel_all(
            CARRIER, cmd.find_result(ship), reference_of(cmd.saga_id)
        )

    @order.step(retry=FORWARD, timeout=5, transactional=True)
    async def invoice(cmd: Command[Order], tx: psycopg.AsyncConnection[Any]) -> Invoice:
        """Write the invoice."""
        number = await cmd.resource(Shop).issue_invoice(
            tx,
            cmd.saga_id,
            customer=cmd.input.customer,
            amount_minor=cmd.input.total,
            currency=cmd.input.currency,
        )
        return Invoice(number=number)

    @invoice.compensation(retry=UNDO, timeout=5, transactional=True)
    async def credit(cmd: Command[Order], tx: psycopg.AsyncConnection[Any]) -> Invoice | None:
        """Write the credit note."""
        number = await cmd.resource(Shop).credit_invoice(tx, cmd.saga_id)
        return None if number is None else Invoice(number=number)


@order.step(state="DISPATCHED", retry=FORWARD, timeout=5, transactional=True, pivot=True)
async def dispatch(cmd: Command[Order], tx: psycopg.AsyncConnection[Any]) -> None:
    """Have the parcel handed over."""
    await cmd.resource(Shop).list_for_picking(tx, cmd.saga_id, cmd.result(ship).id)


delivered = order.wait_for(
    "delivered",
    result=Delivered,
    timeout=timedelta(days=14),
    on_timeout="suspend",
    state="DELIVERED",
)


@order.step(
    when=lambda cmd: cmd.input.email is not None, best_effort=True, retry=FORWARD, timeout=5
)
async def thank(cmd: Command[Order]) -> str:
    """Send the mail that ends an order."""
    assert cmd.input.email is not None, "or this step is skipped"
    amount = format_amount(cmd.input.total, cmd.input.currency)
    return await cmd.resource(Mailer).send(
        cmd.input.email,
        f"Your order {cmd.key}",
        f"Thank you.\n\nYour order {cmd.key} over {amount} was delivered.\n"
        f"Invoice: {cmd.result(invoice).number}\n",
        saga_id=cmd.saga_id,
        idempotency_key=cmd.idempotency_key,
    )


app = App(sagas=[order], lifespan=surroundings)

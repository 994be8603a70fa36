"""Orders: several lines each, some of which cannot be had, some cards declined, some carriers who
refuse; the carrier's webhooks come to a receiver in a process of its own."""

from __future__ import annotations

import contextlib
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psycopg

from steps import ledger
from steps.demo import leftovers
from steps.demo.errors import DemoError
from steps.demo.programs import LEDGER_SCHEMA, SCHEMA, SHOP_SCHEMA, last_lines
from steps.demo.scenario import Counted, Ending, Judged, Mismatch, World, judge_counts
from steps.demo.scenarios.payment import open_books
from steps.expected import CLOSED_MERCHANT, REFUSED_DOMAIN
from steps.order import Order
from steps.sandbox.cards import ACCEPTED_CARDS, DECLINED_CARDS
from steps.sandbox.partner_routes import UNAVAILABLE
from steps.server import ServerProcess
from steps.shop import Shop

COUNT = 300
GOODS, PARCELS = "at the warehouse: lines reserved", "at the carrier: parcels booked"
MONEY, DEBITS = "at the provider: authorizations standing", "in the ledger: debits not reversed"
INVOICES, PICKED = "invoices without a credit note", "on the picking list"
MAILS = "mails delivered"
LABELS = (GOODS, PARCELS, MONEY, DEBITS, INVOICES, PICKED, MAILS)
TROUBLES: Sequence[Mapping[str, str]] = (
    *[{"payment_method": card} for card in sorted(DECLINED_CARDS)[:4]],
    {"merchant": CLOSED_MERCHANT},
    *[{"address": f"{UNAVAILABLE} island"}] * 3,
    {"address": f"{UNAVAILABLE} island", "warehouse_fault": "cancel:error_500:1"},
    {"address": f"{UNAVAILABLE} island", "warehouse_fault": "cancel:drop_after:1"},
    *[{"sku": f"{UNAVAILABLE}-{n}"} for n in range(4)],
    *[{"email": f"customer-{n}@{REFUSED_DOMAIN}"} for n in range(3)],
    {"warehouse_fault": "create:drop_after:1"},
    {"warehouse_fault": "create:drop_before:2"},
    {"warehouse_fault": "create:rate_limit:1"},
    {"warehouse_fault": "create:error_500:1"},
    {"carrier_fault": "create:error_500_after:1"},
    {"carrier_fault": "create:timeout_after:1"},
    {"carrier_fault": "create:timeout_before:1"},
    {"carrier_fault": "create:drop_after:*"},
    {"payment_fault": "confirm:drop_after:1"},
    {"payment_fault": "create:drop_before:1"},
)


class Orders(Counted):
    """So many orders, always the same; one in ten meets trouble."""

    saga = "order"
    noun = "orders"
    apps: Sequence[str] = ("steps.order:app", "steps.payment:app")
    prologue = (
        "orders are reserved line by line, paid by a saga of their own, shipped and\n"
        "invoiced side by side, and delivered when the carrier's webhook says so."
    )
    epilogue = (
        "An order ends when its parcel is delivered, half a second after it was booked.\n"
        "The slowest met timeouts, and waited until no effect could land any more."
    )
    places = (
        "at the warehouse,\nthe carrier and the provider, in ledger, invoices and picking list, "
        "and in the mailbox"
    )

    def __init__(self, count: int | None = None) -> None:
        self.inputs = make_orders(COUNT if count is None else count)

    async def prepare(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Create the tables, and close an account to see a refusal."""
        await Shop(SHOP_SCHEMA).install(connection)
        await open_books(connection)

    def companions(
        self, environment: Mapping[str, str], directory: Path
    ) -> AbstractContextManager[Mapping[str, str]]:
        """The receiver of webhooks."""
        return receive_webhooks(environment, directory)

    async def judge(self, connection: psycopg.AsyncConnection[Any], world: World) -> Judged:
        """Compare everything with the inputs; and the invoices' numbers with 1, 2, 3, ..."""
        found = await _find(connection, world)
        judged = judge_counts(
            LABELS, {key: expected_end(order) for key, order in self.inputs.items()}, found
        )
        invoices = await Shop(SHOP_SCHEMA).rows(connection, "invoice")
        numbers = sorted(invoice["number"] for invoice in invoices)
        missing = sorted(set(range(1, len(numbers) + 1)) - set(numbers))
        gaps = [Mismatch("invoices", "numbers that are missing", [], missing)] if missing else []
        return Judged(judged.sections, [*judged.mismatches, *gaps])


@contextlib.contextmanager
def receive_webhooks(
    environment: Mapping[str, str], directory: Path
) -> Iterator[Mapping[str, str]]:
    """Run the receiver of the carrier's webhooks; gives the variables that tell workers of it.

    Raises:
        DemoError: it did not start.
    """
    log = directory / "webhooks.log"
    try:
        receiver = ServerProcess("steps.webhooks", log=log, environment=environment)
    except RuntimeError as error:
        raise DemoError(f"{error}:\n{last_lines(log)}") from error
    leftovers.remember(directory, receiver.pid)
    with receiver:
        yield {"EXAMPLE_CALLBACK_URL": f"{receiver.url}/webhooks/carrier"}


def make_orders(count: int) -> dict[str, Order]:
    """Make orders, by key: always the same ones."""
    chance = random.Random(3)
    troubled = dict(zip(chance.sample(range(COUNT), len(TROUBLES)), TROUBLES, strict=True))
    orders = {}
    for number in range(COUNT):
        changes = dict(troubled.get(number, {}))
        lines = [
            {"sku": f"sku-{chance.randrange(50)}", "count": chance.randrange(1, 5), "price": 250}
            for _ in range(chance.randrange(1, 5))
        ]
        if "sku" in changes:
            lines[-1]["sku"] = changes.pop("sku")
        plain = {
            "lines": lines,
            "address": f"Kirchgasse {chance.randrange(1, 90)}",
            "merchant": "bakery",
            "customer": f"cus_{number:04}",
            "payment_method": chance.choice(sorted(ACCEPTED_CARDS)),
            "email": f"customer-{number:04}@example.com",
        }
        orders[f"order-{number + 1:04}"] = Order.model_validate(plain | changes)
    return dict(list(orders.items())[:count])


def expected_end(order: Order) -> Ending:
    """Say how the saga of this order must end; what it leaves is all there, or nothing is."""
    if (
        any(UNAVAILABLE in line.sku for line in order.lines)
        or UNAVAILABLE in order.address
        or order.payment_method in DECLINED_CARDS
        or order.merchant == CLOSED_MERCHANT
        or (order.carrier_fault or "").endswith(":*")
    ):
        return Ending("FAILED")
    end = Ending("COMPLETED")
    end.counts.update({GOODS: len(order.lines), PARCELS: 1, MONEY: 1, DEBITS: 1})
    end.counts.update({INVOICES: 1, PICKED: 1})
    if order.email is not None and not order.email.endswith(f"@{REFUSED_DOMAIN}"):
        end.counts[MAILS] = 1
    return end


async def _find(connection: psycopg.AsyncConnection[Any], world: World) -> Mapping[str, Ending]:
    keys = {str(saga.saga_id): saga.key for saga in world.sagas}
    # A payment's saga has the key of the step that runs it, order/KEY/pay.
    rows = await connection.execute(
        f"select saga_id, split_part(key, '/', 2) from {SCHEMA}.overview where type = 'payment'"  # noqa: S608
    )
    keys |= {str(saga_id): key for saga_id, key in await rows.fetchall()}
    found: defaultdict[str, Ending] = defaultdict(Ending)

    def of(saga_id: object) -> Ending:
        return found[keys.get(str(saga_id), f"saga {saga_id}")]

    for saga in world.sagas:
        of(saga.saga_id).status = saga.status
    places = {"warehouse": GOODS, "carrier": PARCELS}
    for booking in world.sandbox.bookings():
        if booking["status"] == "booked":
            saga_id = booking["reference"].partition("/")[0]
            of(saga_id).counts[places[booking["service"]]] += 1
    for intent in world.sandbox.intents():
        of(intent["metadata"].get("saga_id")).counts[MONEY] += intent["status"] != "canceled"
    for entry in await ledger.entries(connection, LEDGER_SCHEMA):
        of(entry.saga_id).counts[DEBITS] += 1 if entry.direction == "debit" else -1
    shop = Shop(SHOP_SCHEMA)
    for invoice in await shop.rows(connection, "invoice"):
        of(invoice["saga_id"]).counts[INVOICES] += 1 if invoice["kind"] == "invoice" else -1
    for listed in await shop.rows(connection, "picking_list"):
        of(listed["saga_id"]).counts[PICKED] += 1
    for saga_id, _ in {(mail.saga_id, mail.message_id) for mail in world.mails}:
        of(saga_id).counts[MAILS] += 1
    return found

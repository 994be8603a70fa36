"""Orders: the good day, each thing that can go wrong, and what is left of them at the partners."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from outbox import SagaStatus
from steps import payment
from steps.expected import REFUSED_DOMAIN
from steps.order import Line, Order, app, order
from steps.signatures import TEST_SECRET, sign
from tests.engine.bench import Bench, until
from tests.fixtures import Schema, move_clock
from tests.steps.town import Town

pytestmark = pytest.mark.anyio

TEA, CUP = Line(sku="tea", count=2, price=450), Line(sku="cup", count=1, price=1200)
WHOLE = {"warehouse": ["1 x cup", "2 x tea"], "carrier": ["Kirchgasse 1"]}


@pytest.fixture
def town(schema: Schema, tmp_path: Path) -> Iterator[Town]:
    """What orders talk to, a receiver of webhooks too."""
    with Town(Bench(schema), tmp_path, webhooks=True) as made:
        yield made


def make_order(**changes: Any) -> Order:
    plain = {
        "lines": [TEA, CUP],
        "address": "Kirchgasse 1",
        "merchant": "bakery",
        "customer": "cus_1",
        "payment_method": "pm_card_visa",
        "email": "anna@example.com",
    }
    return Order.model_validate(plain | changes)


async def run(town: Town, wanted: Order, **settings: Any) -> SagaStatus:
    """Runs one order to its end."""
    async with town.worker(app, payment.app, **settings):
        return await town.settled(await town.start(order, wanted))


async def invoices(town: Town) -> list[tuple[int, str]]:
    return sorted((row["number"], row["kind"]) for row in await town.table("invoice"))


async def nothing_is_left(town: Town) -> None:
    """Asserts that an order which failed has left nothing standing anywhere."""
    assert town.booked() == {}
    assert set(town.intents()) <= {"canceled"}
    kinds = [kind for _, kind in await invoices(town)]
    assert kinds in ([], ["invoice", "credit"])
    assert await town.postings() in ([], ["debit", "credit"])
    assert await town.table("picking_list") == []
    assert town.mailbox.received == []
    assert await town.bench.violations() == []


async def test_an_order_is_reserved_paid_shipped_invoiced_and_delivered(town: Town) -> None:
    status = await run(town, make_order())
    assert (status.status, status.state, status.error) == ("COMPLETED", "COMPLETED", None)
    assert town.booked() == WHOLE
    assert town.cancelled() == {}
    assert town.intents() == ["requires_capture"]
    assert [intent["amount"] for intent in town.sandbox.intents()] == [2100]
    assert await invoices(town) == [(1, "invoice")]
    assert [row["saga_id"] for row in await town.table("picking_list")] == [status.id]
    assert [mail.recipient for mail in town.mailbox.received] == ["anna@example.com"]
    assert await town.bench.violations() == []


async def test_without_an_address_no_mail_is_sent(town: Town) -> None:
    status = await run(town, make_order(email=None))
    assert status.status == "COMPLETED"
    assert ("action", "thank", "skipped") in await town.steps_of(status.id)
    assert town.mailbox.received == []


async def test_a_mail_that_is_refused_does_not_bother_the_order(town: Town) -> None:
    status = await run(town, make_order(email=f"anna@{REFUSED_DOMAIN}"))
    assert (status.status, status.error["type"]) == ("COMPLETED", "BestEffort")
    assert town.booked() == WHOLE
    assert await town.bench.violations() == []


async def test_what_cannot_be_had_releases_what_was_reserved(town: Town) -> None:
    gone = Line(sku="unavailable-cake", count=1, price=1)
    status = await run(town, make_order(lines=[TEA, CUP, gone]))
    assert (status.status, status.error["code"]) == ("FAILED", "unavailable")
    assert town.cancelled() == {"warehouse": 2}
    await nothing_is_left(town)


async def test_a_declined_card_releases_the_goods(town: Town) -> None:
    status = await run(town, make_order(payment_method="pm_card_chargeDeclined"))
    assert (status.status, status.error["type"]) == ("FAILED", "SubSagaFailed")
    assert town.cancelled() == {"warehouse": 2}
    await nothing_is_left(town)


async def test_a_carrier_that_refuses_has_the_payment_and_the_invoice_taken_back(
    town: Town,
) -> None:
    status = await run(town, make_order(address="unavailable island"))
    assert (status.status, status.error["code"]) == ("FAILED", "unavailable")
    assert town.intents() == ["canceled"]
    await nothing_is_left(town)


@pytest.mark.parametrize(
    "faults",
    [
        {"warehouse_fault": "create:drop_after:1"},
        {"warehouse_fault": "create:timeout_before:1"},
        {"warehouse_fault": "create:error_500:2"},
        {"warehouse_fault": "create:rate_limit:1"},
        {"payment_fault": "confirm:drop_after:1"},
        {"carrier_fault": "create:timeout_after:1"},
        {"carrier_fault": "create:error_500_after:1"},
    ],
    ids=lambda faults: "-".join(faults.values()),
)
async def test_answers_that_are_lost_change_nothing(town: Town, faults: dict[str, str]) -> None:
    status = await run(town, make_order(**faults))
    assert status.status == "COMPLETED", status.error
    assert town.booked() == WHOLE
    assert town.cancelled() == {}
    assert town.intents() == ["requires_capture"]
    assert await town.bench.violations() == []


async def test_a_carrier_that_never_answers_is_called_off_though_nobody_knows_its_booking(
    town: Town,
) -> None:
    status = await run(town, make_order(carrier_fault="create:drop_after:*;cancel:error_500:1"))
    assert status.status == "FAILED"
    assert town.cancelled() == {"warehouse": 2, "carrier": 1}
    await nothing_is_left(town)


async def test_numbers_of_invoices_have_no_gaps_though_orders_fail(town: Town) -> None:
    async with town.worker(app, payment.app):
        ids = [
            await town.start(
                order, make_order(address="unavailable" if n % 3 == 0 else "here"), f"order-{n}"
            )
            for n in range(12)
        ]
        ends = [(await town.settled(one)).status for one in ids]
    assert ends.count("FAILED") == 4
    numbers = [number for number, _ in await invoices(town)]
    assert numbers == list(range(1, len(numbers) + 1))
    standing = [kind for _, kind in await invoices(town)]
    assert standing.count("invoice") - standing.count("credit") == 8
    assert await town.bench.violations() == []


async def _waits_for_delivery(town: Town) -> bool:
    return bool(await town.bench.rows("select 1 from outbox where awaits = 'signal'"))


async def test_a_parcel_that_never_arrives_is_a_persons_business(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EXAMPLE_CALLBACK_URL")
    async with town.worker(app, payment.app):
        saga = await town.start(order, make_order())
        await until(lambda: _waits_for_delivery(town))
        with town.bench.schema.connect() as connection:
            move_clock(connection, town.bench.schema.name, timedelta(days=15))
        status = await town.settled(saga)
        assert status.status == "SUSPENDED"
        assert 'no signal "delivered"' in (status.reason or "")
        assert town.booked() == WHOLE, "past the pivot nothing is undone"
        # The person has found it, and forgoes the signal.
        await town.bench.rows("select resolve(%s, 'COMPLETED', 'it is at the neighbours')", saga)
        status = await town.settled(saga)
    assert status.status == "COMPLETED"
    assert await town.bench.violations() == []


async def test_a_webhook_is_checked_and_its_repetition_counts_once(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EXAMPLE_CALLBACK_URL")
    async with town.worker(app, payment.app), httpx.AsyncClient() as client:
        saga = await town.start(order, make_order())
        await until(lambda: _waits_for_delivery(town))
        body = _delivered(saga)

        async def tell(headers: dict[str, str], content: bytes = body) -> tuple[int, str]:
            answer = await client.post(town.callback_url, content=content, headers=headers)
            return answer.status_code, answer.json()["fate"]

        good = sign(TEST_SECRET, "msg_1", body)
        assert await tell(sign("whsec_c3RyYW5nZXI=", "msg_1", body)) == (401, "refused")
        assert await tell(sign(TEST_SECRET, "msg_1", body, at=1000)) == (401, "refused")
        assert await tell(good, body.replace(b"bk_1", b"bk_2")) == (401, "refused")
        assert await tell({}) == (401, "refused")
        assert await _waits_for_delivery(town)
        assert await tell(good) == (200, "delivered")
        assert (await town.settled(saga)).status == "COMPLETED"
        assert await tell(good) == (200, "repeated"), "though it has ended"
        assert await tell(sign(TEST_SECRET, "msg_4", body)) == (200, "ignored"), "it has ended"
        other = _delivered(UUID(int=1))
        assert await tell(sign(TEST_SECRET, "msg_2", other), other) == (200, "ignored")
        assert await tell(sign(TEST_SECRET, "msg_3", b"[]"), b"[]") == (400, "malformed")
    assert await town.bench.violations() == []


def _delivered(saga: UUID) -> bytes:
    return (
        b'{"type": "delivered", "data": {"reference": "%s", "booking": "bk_1", "at": 1.5}}'
        % str(saga).encode()
    )


@pytest.mark.parametrize("step", ["reserve", "pay", "ship", "dispatch"])
async def test_a_worker_that_dies_in_the_middle_changes_nothing(town: Town, step: str) -> None:
    slow = make_order(warehouse_fault="create:slow:1", carrier_fault="create:slow:1")
    async with town.worker(app, payment.app) as victim:
        saga = await town.start(order, slow)

        async def reached() -> bool:
            return bool(
                await town.bench.rows("select 1 from outbox where step = %s", step)
                or await town.bench.rows(
                    "select 1 from transition where step = %s and saga_id = %s", step, saga
                )
            )

        await until(reached)
        await victim.crash()
    async with town.worker(app, payment.app):
        status = await town.settled(saga)
    assert status.status == "COMPLETED", status.error
    assert town.booked() == WHOLE
    assert town.intents() == ["requires_capture"]
    assert await invoices(town) == [(1, "invoice")]
    assert len({mail.message_id for mail in town.mailbox.received}) == 1
    assert await town.bench.violations() == []


async def test_a_worker_that_dies_while_it_undoes_leaves_nothing_either(town: Town) -> None:
    doomed = make_order(address="unavailable", warehouse_fault="cancel:slow:1")
    async with town.worker(app, payment.app) as victim:
        saga = await town.start(order, doomed)

        async def undoes() -> bool:
            return bool(
                await town.bench.rows(
                    "select 1 from outbox where id = %s and kind = 'compensation'"
                    " and step = 'reserve'",
                    saga,
                )
            )

        await until(undoes)
        await victim.crash()
    async with town.worker(app, payment.app):
        status = await town.settled(saga)
    assert status.status == "FAILED"
    await nothing_is_left(town)


async def test_an_operator_who_cancels_early_gets_everything_undone(town: Town) -> None:
    async with town.worker(app, payment.app):
        saga = await town.start(order, make_order(carrier_fault="create:slow:1"))

        async def ships() -> bool:
            return any(one["service"] == "carrier" for one in town.sandbox.bookings())

        await until(ships)
        await town.bench.rows("select cancel(%s, 'changed my mind')", saga)
        status = await town.settled(saga)
    assert (status.status, status.state) == ("FAILED", "CANCELLED")
    await nothing_is_left(town)

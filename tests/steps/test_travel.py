"""Journeys: booked whole or not at all, whatever the partners keep to themselves."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from outbox import SagaStatus
from steps.expected import REFUSED_DOMAIN
from steps.travel import Journey, app, travel
from tests.engine.bench import until
from tests.fixtures import move_clock
from tests.steps.town import Town

pytestmark = pytest.mark.anyio

WHOLE = {
    "airline": ["LH 400"],
    "hotel": ["Adler"],
    "rental": ["small"],
    "tickets": ["tickets for Anna"],
}


def make_journey(**changes: Any) -> Journey:
    plain = {
        "traveller": "Anna",
        "flight": "LH 400",
        "hotel": "Adler",
        "car": "small",
        "email": "anna@example.com",
    }
    return Journey.model_validate(plain | changes)


async def run(town: Town, wanted: Journey) -> SagaStatus:
    """Runs one journey to its end."""
    async with town.worker(app):
        return await town.settled(await town.start(travel, wanted))


async def test_everything_is_booked_and_tickets_are_issued(town: Town) -> None:
    status = await run(town, make_journey())
    assert (status.status, status.error) == ("COMPLETED", None)
    assert town.booked() == WHOLE
    assert [mail.recipient for mail in town.mailbox.received] == ["anna@example.com"]
    assert await town.bench.violations() == []


async def test_no_car_is_booked_for_who_wants_none(town: Town) -> None:
    status = await run(town, make_journey(car=None))
    assert status.status == "COMPLETED"
    assert "rental" not in town.booked()
    assert ("action", "car", "skipped") in await town.steps_of(status.id)


@pytest.mark.parametrize("missing", ["flight", "hotel", "car"])
async def test_what_cannot_be_had_has_the_others_cancelled(town: Town, missing: str) -> None:
    status = await run(town, make_journey(**{missing: "unavailable"}))
    assert (status.status, status.error["code"]) == ("FAILED", "unavailable")
    assert town.booked() == {}
    assert town.mailbox.received == []
    assert await town.bench.violations() == []


async def test_tickets_that_are_refused_have_everything_cancelled(town: Town) -> None:
    status = await run(town, make_journey(traveller="unavailable"))
    assert status.status == "FAILED"
    assert town.cancelled() == {"airline": 1, "hotel": 1, "rental": 1}
    assert town.booked() == {}
    assert await town.bench.violations() == []


@pytest.mark.parametrize(
    ("step", "fault", "asked"),
    [
        ("flight", "create:timeout_after:1", ["done"]),
        ("hotel", "create:drop_after:1", ["done"]),
        ("car", "create:timeout_before:1", ["rejected"]),
        ("tickets", "create:timeout_after:1", ["done"]),
        ("tickets", "create:error_500:1", ["rejected"]),
        ("flight", "create:timeout_after:1;list:error_500:1", ["in_doubt", "done"]),
    ],
)
async def test_a_partner_that_falls_silent_is_asked_what_stands_booked(
    town: Town, step: str, fault: str, asked: Sequence[str]
) -> None:
    status = await run(town, make_journey(**{f"{step}_fault": fault}))
    assert status.status == "COMPLETED", status.error
    assert town.booked() == WHOLE
    assert town.cancelled() == {}
    reconciled = [
        outcome for kind, _, outcome in await town.steps_of(status.id) if kind == "reconcile"
    ]
    assert len(reconciled) == len(asked)
    assert reconciled[-1] == asked[-1]
    assert await town.bench.violations() == []


async def test_a_booking_found_by_the_reconcile_is_cancelled_when_another_one_fails(
    town: Town,
) -> None:
    status = await run(
        town, make_journey(flight_fault="create:timeout_after:1", hotel="unavailable")
    )
    assert status.status == "FAILED"
    assert town.cancelled()["airline"] == 1
    assert town.booked() == {}
    assert await town.bench.violations() == []


async def test_partners_that_fail_while_everything_is_cancelled_are_asked_again(
    town: Town,
) -> None:
    status = await run(
        town,
        make_journey(
            traveller="unavailable",
            flight_fault="cancel:error_500:2",
            hotel_fault="cancel:drop_after:1",
            car_fault="cancel:rate_limit:1",
        ),
    )
    assert status.status == "FAILED"
    assert town.booked() == {}
    assert await town.bench.violations() == []


async def test_a_mail_that_is_refused_does_not_bother_the_journey(town: Town) -> None:
    status = await run(town, make_journey(email=f"anna@{REFUSED_DOMAIN}"))
    assert (status.status, status.error["type"]) == ("COMPLETED", "BestEffort")
    assert town.booked() == WHOLE


async def test_a_journey_without_tickets_in_half_an_hour_is_undone(town: Town) -> None:
    wanted = make_journey(hotel_fault="create:rate_limit:*")
    async with town.worker(app):
        saga = await town.start(travel, wanted)

        async def flown() -> bool:
            return set(town.booked()) == {"airline", "rental"}

        await until(flown)
        with town.bench.schema.connect() as connection:
            move_clock(connection, town.bench.schema.name, timedelta(minutes=31))
        status = await town.settled(saga)
    assert (status.status, status.error["type"]) == ("FAILED", "DeadlineExceeded")
    assert town.booked() == {}
    assert await town.bench.violations() == []


@pytest.mark.parametrize("fault", ["flight_fault", "tickets_fault"])
async def test_a_worker_that_dies_in_mid_booking_books_nothing_twice(
    town: Town, fault: str
) -> None:
    service = {"flight_fault": "airline", "tickets_fault": "tickets"}[fault]
    async with town.worker(app) as victim:
        saga = await town.start(travel, make_journey(**{fault: "create:slow:1"}))
        await until(lambda: service in town.booked())
        await victim.crash()
    async with town.worker(app):
        status = await town.settled(saga)
    assert status.status == "COMPLETED", status.error
    assert town.booked() == WHOLE
    assert town.cancelled() == {}
    assert await town.bench.violations() == []

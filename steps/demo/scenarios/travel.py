"""Journeys: some of what is wanted cannot be had, and partners fall silent in mid-booking."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg

from steps.demo.scenario import Counted, Ending, Judged, World, judge_counts
from steps.expected import REFUSED_DOMAIN
from steps.sandbox.partner_routes import UNAVAILABLE
from steps.travel import AIRLINE, HOTEL, RENTAL, TICKETS, Journey

COUNT = 400
BOOKED = {
    AIRLINE: "at the airline: flights booked",
    HOTEL: "at the hotels: rooms booked",
    RENTAL: "at the rental: cars booked",
    TICKETS: "at the ticket office: tickets issued",
}
MAILS = "mails delivered"
NEVER_BOOKED = ("timeout_before:*", "error_500:*")
# The first attempt takes effect, its answer is lost, and the partner is asked what it has.
FOUND_OUT = ("timeout_after:1", "drop_after:1", "drop_after:*", "error_500_after:1")
TROUBLES: Sequence[Mapping[str, str]] = (
    *[{what: UNAVAILABLE} for what in ("flight", "hotel", "car", "traveller")] * 4,
    *[
        {f"{step}_fault": f"create:{fault}"}
        for step in ("flight", "hotel", "tickets")
        for fault in (*FOUND_OUT, "timeout_before:1", "error_500:1", "rate_limit:1")
    ],
    *[{"hotel_fault": f"create:{fault}"} for fault in NEVER_BOOKED],
    {"tickets_fault": "create:error_500:*"},
    {"hotel": UNAVAILABLE, "flight_fault": "cancel:error_500:2"},
    {"traveller": UNAVAILABLE, "hotel_fault": "cancel:drop_after:1"},
    *[{"email": f"traveller-{n}@{REFUSED_DOMAIN}"} for n in range(3)],
)


class Journeys(Counted):
    """So many journeys, always the same."""

    saga = "travel"
    noun = "journeys"
    apps: Sequence[str] = ("steps.travel:app",)
    prologue = (
        "journeys: flight, hotel and perhaps a car are booked side by side, then\n"
        "tickets are issued. Partners that fall silent are asked what stands booked."
    )
    epilogue = (
        "All journeys start at once, so latency is mostly the queue. The slowest waited for\n"
        "answers that never came, and asked once no effect could land any more."
    )
    places = "at the airline, the hotels,\nthe rental and the ticket office, and in the mailbox"

    def __init__(self, count: int | None = None) -> None:
        self.inputs = make_journeys(COUNT if count is None else count)

    async def judge(self, connection: psycopg.AsyncConnection[Any], world: World) -> Judged:
        """Compare sagas, bookings and mails with the inputs."""
        expected = {key: expected_end(journey) for key, journey in self.inputs.items()}
        keys = {str(saga.saga_id): saga.key for saga in world.sagas}
        found: defaultdict[str, Ending] = defaultdict(Ending)
        for saga in world.sagas:
            found[saga.key].status = saga.status
        for booking in world.sandbox.bookings():
            if booking["status"] == "booked":
                key = keys.get(booking["reference"], f"saga {booking['reference']}")
                found[key].counts[BOOKED[booking["service"]]] += 1
        for saga_id, _ in {(mail.saga_id, mail.message_id) for mail in world.mails}:
            found[keys.get(saga_id, f"saga {saga_id}")].counts[MAILS] += 1
        return judge_counts([*BOOKED.values(), MAILS], expected, found)


def make_journeys(count: int) -> dict[str, Journey]:
    """Make journeys, by key: always the same ones."""
    chance = random.Random(5)
    troubled = dict(zip(chance.sample(range(COUNT), len(TROUBLES)), TROUBLES, strict=True))
    journeys = {}
    for number in range(COUNT):
        plain = {
            "traveller": f"traveller {number:04}",
            "flight": f"LH {chance.randrange(100, 999)}",
            "hotel": chance.choice(["Adler", "Krone", "Post"]),
            "car": chance.choice(["small", "large", None]),
            "email": f"traveller-{number:04}@example.com",
        }
        journeys[f"journey-{number + 1:04}"] = Journey.model_validate(
            {**plain, **troubled.get(number, {})}
        )
    return dict(list(journeys.items())[:count])


def expected_end(journey: Journey) -> Ending:
    """Say how the saga of this journey must end: with everything booked, or nothing."""
    wanted = (journey.flight, journey.hotel, journey.car or "", journey.traveller)
    faults = (journey.flight_fault, journey.hotel_fault, journey.car_fault, journey.tickets_fault)
    if any(UNAVAILABLE in item for item in wanted) or any(
        (fault or "").endswith(NEVER_BOOKED) for fault in faults
    ):
        return Ending("FAILED")
    end = Ending("COMPLETED")
    end.counts.update({BOOKED[AIRLINE]: 1, BOOKED[HOTEL]: 1, BOOKED[TICKETS]: 1})
    end.counts[BOOKED[RENTAL]] = int(journey.car is not None)
    if journey.email is not None and not journey.email.endswith(f"@{REFUSED_DOMAIN}"):
        end.counts[MAILS] = 1
    return end

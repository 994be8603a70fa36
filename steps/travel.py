"""A journey: flight, hotel and perhaps a car, booked side by side; then the tickets, or nothing.

Three partners, and each of them may fall silent in mid-booking. So each booking has a *reconcile*:
after a timeout the partner is asked what stands booked under the journey's reference, before
anything is tried again or undone. Nobody books twice to find out whether he has booked once.

The pivot is *issue_tickets*: until then every booking can be cancelled for nothing, and tickets
cannot be. It has a reconcile too, and that matters more than anywhere else, for a pivot whose
effect nobody knows can neither be given up nor undone: without one, a person would have to ask.

Partners hold what is booked for half an hour, hence the saga's deadline: a journey without tickets
by then is undone, whatever it is waiting for.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from outbox import App, Command, Happened, NotDone, Saga
from steps.mail import Mailer
from steps.partners import Booking, Partners, reference_of
from steps.surroundings import FORWARD, UNDO, surroundings

AIRLINE, HOTEL, RENTAL, TICKETS = "airline", "hotel", "rental", "tickets"


class Journey(BaseModel):
    """Where somebody wants to go."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    traveller: Annotated[str, Field(min_length=1, max_length=100)]
    flight: Annotated[str, Field(min_length=1, max_length=100)]
    hotel: Annotated[str, Field(min_length=1, max_length=100)]
    car: Annotated[str | None, Field(description="without one, none is booked")] = None
    email: Annotated[str | None, Field(max_length=254)] = None
    flight_fault: str | None = None
    hotel_fault: str | None = None
    car_fault: str | None = None
    tickets_fault: str | None = None


travel = Saga("travel", input=Journey, version=1, deadline=timedelta(minutes=30))


async def _book(cmd: Command[Journey], service: str, item: str, fault: str | None) -> Booking:
    return await cmd.resource(Partners).book(
        service,
        item,
        reference=reference_of(cmd.saga_id),
        idempotency_key=cmd.idempotency_key,
        fault=fault,
    )


async def _ask(cmd: Command[Journey], service: str) -> Happened | NotDone:
    found = await cmd.resource(Partners).find(service, reference_of(cmd.saga_id))
    return Happened(found[0]) if found else NotDone()


async def _cancel(cmd: Command[Journey], service: str, known: Booking | None) -> None:
    await cmd.resource(Partners).cancel_all(service, known, reference_of(cmd.saga_id))


with travel.parallel("book", state="BOOKED"):

    @travel.step(retry=FORWARD, timeout=3)
    async def flight(cmd: Command[Journey]) -> Booking:
        """Book the flight."""
        return await _book(cmd, AIRLINE, cmd.input.flight, cmd.input.flight_fault)

    @travel.step(retry=FORWARD, timeout=3)
    async def hotel(cmd: Command[Journey]) -> Booking:
        """Book the hotel."""
        return await _book(cmd, HOTEL, cmd.input.hotel, cmd.input.hotel_fault)

    @travel.step(retry=FORWARD, timeout=3, when=lambda cmd: cmd.input.car is not None)
    async def car(cmd: Command[Journey]) -> Booking:
        """Book the car, if one is wanted."""
        assert cmd.input.car is not None, "or this step is skipped"
        return await _book(cmd, RENTAL, cmd.input.car, cmd.input.car_fault)


@flight.reconcile(retry=UNDO, timeout=3)
async def ask_airline(cmd: Command[Journey]) -> Happened | NotDone:
    """Find the flight by the journey's reference."""
    return await _ask(cmd, AIRLINE)


@flight.compensation(retry=UNDO, timeout=3)
async def cancel_flight(cmd: Command[Journey]) -> None:
    """Cancel the flight."""
    await _cancel(cmd, AIRLINE, cmd.find_result(flight))


@hotel.reconcile(retry=UNDO, timeout=3)
async def ask_hotel(cmd: Command[Journey]) -> Happened | NotDone:
    """Find the room by the journey's reference."""
    return await _ask(cmd, HOTEL)


@hotel.compensation(retry=UNDO, timeout=3)
async def cancel_hotel(cmd: Command[Journey]) -> None:
    """Cancel the room."""
    await _cancel(cmd, HOTEL, cmd.find_result(hotel))


@car.reconcile(retry=UNDO, timeout=3)
async def ask_rental(cmd: Command[Journey]) -> Happened | NotDone:
    """Find the car by the journey's reference."""
    return await _ask(cmd, RENTAL)


@car.compensation(retry=UNDO, timeout=3)
async def cancel_car(cmd: Command[Journey]) -> None:
    """Cancel the car."""
    await _cancel(cmd, RENTAL, cmd.find_result(car))


@travel.step(state="TICKETED", retry=FORWARD, timeout=3, pivot=True)
async def issue_tickets(cmd: Command[Journey]) -> Booking:
    """Have the tickets issued, which nobody takes back."""
    wanted = f"tickets for {cmd.input.traveller}"
    return await _book(cmd, TICKETS, wanted, cmd.input.tickets_fault)


@issue_tickets.reconcile(retry=UNDO, timeout=3)
async def ask_for_tickets(cmd: Command[Journey]) -> Happened | NotDone:
    """Find the tickets by the journey's reference."""
    return await _ask(cmd, TICKETS)


@travel.step(
    when=lambda cmd: cmd.input.email is not None, best_effort=True, retry=FORWARD, timeout=5
)
async def send_itinerary(cmd: Command[Journey]) -> str:
    """Tell the traveller what was booked."""
    assert cmd.input.email is not None, "or this step is skipped"
    booked = [cmd.result(flight), cmd.result(hotel), cmd.find_result(car)]
    lines = [f"{one.item}: {one.id}" for one in booked if one is not None]
    return await cmd.resource(Mailer).send(
        cmd.input.email,
        "Your journey",
        "\n".join([f"Tickets: {cmd.result(issue_tickets).id}", *lines, ""]),
        saga_id=cmd.saga_id,
        idempotency_key=cmd.idempotency_key,
    )


app = App(sagas=[travel], lifespan=surroundings)

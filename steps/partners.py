"""Partners who take bookings, by HTTP: a warehouse, a carrier, an airline.

As with the payment provider, what matters is what is known about the effect: a refusal had none, an
answer that was lost says nothing and propagates, so that the engine takes it as in doubt.
"""

from __future__ import annotations

from uuid import UUID

import httpx
from pydantic import BaseModel

from outbox import Rejected, RetryAfter

NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout)
"""Errors after which the partner has not even heard of it: for ``Retry(no_effect=...)``."""
MOST_SECONDS_TO_WAIT = 60.0


class Booking(BaseModel):
    """A booking as the partner last described it."""

    id: str
    service: str
    reference: str
    item: str
    status: str


def reference_of(saga_id: UUID, element: int | None = None) -> str:
    """Under which a saga's booking can be found again, when its answer was lost."""
    return str(saga_id) if element is None else f"{saga_id}/{element}"


class Partners:
    """All partners behind one address.

    Args:
        url: the address.
        timeout: how long to wait for an answer, in seconds.
    """

    def __init__(self, url: str, *, timeout: float) -> None:
        # Waiting for a free connection is no lost answer; the step's timeout bounds it.
        self._client = httpx.AsyncClient(
            base_url=url, timeout=httpx.Timeout(timeout, pool=None), trust_env=False
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def book(
        self,
        service: str,
        item: str,
        *,
        reference: str,
        idempotency_key: str,
        callback_url: str | None = None,
        fault: str | None = None,
    ) -> Booking:
        """Book.

        Args:
            service: which partner.
            item: what.
            reference: by which the booking can be found again.
            idempotency_key: the same in every attempt.
            callback_url: whom the partner tells when it has delivered.
            fault: trouble that the sandbox is to make.

        Returns:
            The booking, be it new or made by an earlier attempt.

        Raises:
            Rejected: the partner refuses; nothing was booked.
            RetryAfter: the partner asks to come back later; nothing was booked.
            httpx.HTTPError: the effect is in doubt.
        """
        body = {"reference": reference, "item": item}
        if callback_url is not None:
            body["callback_url"] = callback_url
        if fault is not None:
            body["fault"] = fault
        answer = await self._client.post(
            f"/partners/{service}/bookings", json=body, headers={"Idempotency-Key": idempotency_key}
        )
        _check_wait(answer)
        if answer.is_client_error:
            error = answer.json()["error"]
            raise Rejected(f"{service} refused: {error['message']}", code=error["code"])
        answer.raise_for_status()
        return Booking.model_validate_json(answer.content)

    async def find(self, service: str, reference: str) -> list[Booking]:
        """Find bookings that are not cancelled.

        Args:
            service: which partner.
            reference: what they were made with.

        Returns:
            As a rule one, or none.

        Raises:
            RetryAfter: the partner asks to come back later.
            httpx.HTTPError: they could not be read.
        """
        answer = await self._client.get(
            f"/partners/{service}/bookings", params={"reference": reference}
        )
        _check_wait(answer)
        answer.raise_for_status()
        found = [Booking.model_validate(one) for one in answer.json()["data"]]
        return [booking for booking in found if booking.status == "booked"]

    async def cancel(self, service: str, booking_id: str) -> None:
        """Cancel a booking; cancelled already is a success.

        Raises:
            RetryAfter: the partner asks to come back later.
            httpx.HTTPError: it is not known to be cancelled.
        """
        answer = await self._client.delete(f"/partners/{service}/bookings/{booking_id}")
        _check_wait(answer)
        answer.raise_for_status()

    async def cancel_all(self, service: str, known: Booking | None, reference: str) -> None:
        """Undo a booking of which nothing but its reference may be known.

        Args:
            service: which partner.
            known: the booking, if its answer was not lost.
            reference: what it was made with.
        """
        bookings = [known] if known is not None else await self.find(service, reference)
        for booking in bookings:
            await self.cancel(service, booking.id)


def _check_wait(answer: httpx.Response) -> None:
    if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
        try:
            seconds = float(answer.headers.get("Retry-After", "1"))
        except ValueError:
            seconds = 1.0
        raise RetryAfter(min(seconds, MOST_SECONDS_TO_WAIT), "rate limited", no_effect=True)

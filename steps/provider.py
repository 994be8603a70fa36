"""The payment provider, through its own client library: intents created, authorized, canceled.

The question that each method answers for the engine is not only *did it work* but *what is known
about its effect*. A refusal is known to have none; a lost answer says nothing, and is left to
propagate, so that the engine takes it as in doubt and asks again under the same idempotency key.
"""

from __future__ import annotations

import time
from uuid import UUID

import httpx
import stripe
from pydantic import BaseModel, SecretStr

from outbox import Rejected, RetryAfter
from steps.model import Payment
from steps.provider_errors import refusals_rejected, waits_mapped

UNEXPECTED_STATE = "payment_intent_unexpected_state"


class Intent(BaseModel):
    """A payment intent as the provider last described it."""

    id: str
    status: str
    amount: int
    currency: str


class Provider:
    """Payment intents with manual capture.

    Args:
        key: the secret API key.
        url: base address of the API; ``None`` means the real one.
        timeout: how long to wait for an answer, in seconds.
        key_lifetime: for how long the provider surely remembers an idempotency key, in seconds.
    """

    def __init__(
        self, key: SecretStr, *, url: str | None, timeout: float, key_lifetime: float
    ) -> None:
        # Waiting for a free connection is no lost answer, hence no time limit of its own: the
        # step's timeout bounds it.
        self._http = stripe.HTTPXClient(timeout=httpx.Timeout(timeout, pool=None))
        self._client = stripe.StripeClient(
            key.get_secret_value(),
            base_addresses={} if url is None else {"api": url},
            http_client=self._http,
            # The engine retries, and writes every attempt down.
            max_network_retries=0,
        )
        self._key_lifetime = key_lifetime

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close_async()  # type: ignore[no-untyped-call]  # the library's own

    async def create_intent(self, payment: Payment, saga_id: UUID, idempotency_key: str) -> Intent:
        """Create the intent of a saga; nothing is authorized yet.

        Args:
            payment: amount, currency, customer and payment method.
            saga_id: goes into the metadata, by which the intent can be found again.
            idempotency_key: the same in every attempt.

        Returns:
            The intent, waiting for its confirmation.

        Raises:
            Rejected: the provider refuses the parameters; nothing was created.
            RetryAfter: the provider asks to come back later.
            stripe.StripeError: the effect is in doubt.
        """
        if _age(saga_id) > self._key_lifetime:
            # The key of an earlier attempt may be forgotten by now; under it a second intent
            # would be created.
            for intent in await self.find_intents(saga_id, payment.customer):
                if intent.status != "canceled":
                    return intent
        metadata = {"saga_id": str(saga_id), "merchant": payment.merchant}
        if payment.sandbox_fault is not None:
            metadata["sandbox_fault"] = payment.sandbox_fault
        with refusals_rejected():
            created = await self._client.v1.payment_intents.create_async(
                {
                    "amount": payment.amount,
                    "currency": payment.currency,
                    "customer": payment.customer,
                    "payment_method": payment.payment_method,
                    # Nobody is there to follow a redirect.
                    "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
                    "capture_method": "manual",
                    "metadata": metadata,
                },
                {"idempotency_key": idempotency_key},
            )
        return _intent(created)

    async def authorize(self, intent_id: str, idempotency_key: str) -> Intent:
        """Confirm an intent: its amount is reserved on the customer's card.

        An intent that turns out to be authorized already is a success: the effect that was asked
        for is there, whoever's attempt it was.

        Args:
            intent_id: the intent.
            idempotency_key: the same in every attempt.

        Returns:
            The intent with its amount reserved.

        Raises:
            Rejected: the card was declined, or the intent is canceled; nothing is reserved.
            RetryAfter: the provider asks to come back later.
            stripe.StripeError: the effect is in doubt.
        """
        with refusals_rejected():
            try:
                confirmed = await self._client.v1.payment_intents.confirm_async(
                    intent_id,
                    # Nobody is there to answer a challenge: a card that wants one is declined.
                    {"off_session": True},
                    {"idempotency_key": idempotency_key},
                )
            except stripe.InvalidRequestError as error:
                if error.code != UNEXPECTED_STATE:
                    raise
                confirmed = await self._client.v1.payment_intents.retrieve_async(intent_id)
                if confirmed.status == "processing":
                    raise RetryAfter(
                        1.0, f"intent {intent_id} is being processed", no_effect=False
                    ) from error
        if confirmed.status in {"requires_capture", "succeeded"}:
            return _intent(confirmed)
        if confirmed.status == "processing":
            raise RetryAfter(1.0, f"intent {intent_id} is being processed", no_effect=False)
        failure = confirmed.last_payment_error
        code = (failure.decline_code or failure.code) if failure is not None else None
        raise Rejected(
            f"not authorized: intent {intent_id} is {confirmed.status}",
            code=code or confirmed.status,
        )

    async def cancel(self, intent_id: str) -> Intent:
        """Cancel an intent, which also releases what it reserved; canceled already is a success.

        It goes without the saga's idempotency key on purpose: the provider never cancels twice,
        and under a key it would repeat a stored 500 for a day, in which the money stays reserved.

        Args:
            intent_id: the intent.

        Returns:
            The canceled intent.

        Raises:
            RetryAfter: the provider asks to come back later.
            stripe.StripeError: it is not known to be canceled, or cannot be any more.
        """
        with waits_mapped():
            try:
                canceled = await self._client.v1.payment_intents.cancel_async(intent_id)
            except stripe.InvalidRequestError as error:
                if error.code != UNEXPECTED_STATE:
                    raise
                canceled = await self._client.v1.payment_intents.retrieve_async(intent_id)
                if canceled.status != "canceled":
                    raise
        return _intent(canceled)

    async def find_intents(self, saga_id: UUID, customer: str) -> list[Intent]:
        """Find what a saga created, when its answer was lost.

        It lists the customer's intents and compares their metadata. The provider's search would be
        one request, but it is behind by up to a minute: an intent created just now would be
        missed, and stay for ever.

        Args:
            saga_id: the saga.
            customer: whose intents to look through.

        Returns:
            Every intent of that saga, newest first; as a rule one or none.

        Raises:
            RetryAfter: the provider asks to come back later.
            stripe.StripeError: the list could not be read to its end.
        """
        with waits_mapped():
            intents = await self._client.v1.payment_intents.list_async(
                {"customer": customer, "limit": 100}
            )
            return [
                _intent(intent)
                async for intent in intents.auto_paging_iter()
                if intent.metadata.to_dict().get("saga_id") == str(saga_id)
            ]


def _intent(answer: stripe.PaymentIntent) -> Intent:
    return Intent(
        id=answer.id, status=answer.status, amount=answer.amount, currency=answer.currency
    )


def _age(saga_id: UUID) -> float:
    # A UUIDv7 begins with the milliseconds since 1970 (RFC 9562, 5.7). Of another one nothing is
    # known, so it counts as old.
    return time.time() - (saga_id.int >> 80) / 1000 if saga_id.version == 7 else float("inf")

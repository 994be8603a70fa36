"""The payment saga: take a customer's money for a merchant, or leave no trace of having tried.

1. *create_intent*: the provider learns what is to be paid. Undone by canceling the intent; if its
   answer was lost, the undo finds the intent by the saga's id in its metadata.
2. *authorize*: the amount is reserved on the customer's card. Undone by voiding the reservation,
   which at this provider is the same as canceling the intent; canceling it once more is a success.
3. *update_ledger*: the merchant's account is debited, in the very transaction that records the step
   as done. This is the pivot: from here on the payment stands.
4. *send_confirmation*: the customer gets a mail. If it is refused for good, a person decides; who
   forces an abort gets the reversal entry, then the void, then the cancel.

Capturing the money, days later when the goods leave, is another saga.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

import psycopg
import stripe
from pydantic import BaseModel, SecretStr

from outbox import App, AppContext, Command, Retry, Saga
from steps import ledger
from steps.ledger import Posted
from steps.mail import Mailer
from steps.model import Payment
from steps.provider import Intent, Provider
from steps.settings import PaymentSettings

# An idempotency key that stands for other parameters gets no better by asking again.
FORWARD = Retry(attempts=5, base=0.2, cap=5.0, give_up_on=(stripe.IdempotencyError,))
UNDO = Retry(attempts=20, base=0.2, cap=5.0)

payment = Saga("payment", input=Payment, version=1)


class Confirmation(BaseModel):
    """The mail that was sent; without a Message-ID the payment named no address."""

    message_id: str | None


@payment.step(state="PAYMENT_INTENT_CREATED", retry=FORWARD, timeout=5)
async def create_intent(cmd: Command[Payment]) -> Intent:
    """Tell the provider what is to be paid."""
    provider = cmd.resource(Provider)
    return await provider.create_intent(cmd.input, cmd.saga_id, cmd.idempotency_key)


@create_intent.compensation(retry=UNDO, timeout=5)
async def cancel_intent(cmd: Command[Payment]) -> None:
    """Cancel the intent; when it is not known whether there is one, look for it first."""
    provider = cmd.resource(Provider)
    known = cmd.find_result(create_intent)
    if known is not None:
        await provider.cancel(known.id)
        return
    for intent in await provider.find_intents(cmd.saga_id, cmd.input.customer):
        if intent.status != "canceled":
            await provider.cancel(intent.id)


@payment.step(state="PAYMENT_AUTHORIZED", retry=FORWARD, timeout=5)
async def authorize(cmd: Command[Payment]) -> Intent:
    """Reserve the amount on the customer's card."""
    intent = cmd.result(create_intent)
    return await cmd.resource(Provider).authorize(intent.id, cmd.idempotency_key)


@authorize.compensation(retry=UNDO, timeout=5)
async def void_authorization(cmd: Command[Payment]) -> None:
    """Release the reservation; there may be none if its answer was lost, which is as good."""
    await cmd.resource(Provider).cancel(cmd.result(create_intent).id)


@payment.step(state="LEDGER_UPDATED", retry=FORWARD, timeout=5, transactional=True, pivot=True)
async def update_ledger(cmd: Command[Payment], tx: psycopg.AsyncConnection[Any]) -> Posted:
    """Debit the merchant's account, in the transaction that records this step."""
    return await ledger.post_debit(
        tx,
        cmd.resource(PaymentSettings).ledger_schema,
        idempotency_key=cmd.idempotency_key,
        saga_id=cmd.saga_id,
        merchant=cmd.input.merchant,
        amount_minor=cmd.input.amount,
        currency=cmd.input.currency,
    )


@update_ledger.compensation(retry=UNDO, timeout=5, transactional=True)
async def reverse_ledger(cmd: Command[Payment], tx: psycopg.AsyncConnection[Any]) -> Posted | None:
    """Credit what was debited; only an operator who forces an abort gets here."""
    entry = await ledger.post_reversal(
        tx,
        cmd.resource(PaymentSettings).ledger_schema,
        idempotency_key=cmd.idempotency_key,
        saga_id=cmd.saga_id,
    )
    return None if entry is None else Posted(entry=entry.id)


@payment.step(retry=FORWARD, timeout=5)
async def send_confirmation(cmd: Command[Payment]) -> Confirmation:
    """Tell the customer, if there is an address."""
    if cmd.input.email is None:
        return Confirmation(message_id=None)
    message_id = await cmd.resource(Mailer).send_confirmation(
        cmd.input,
        cmd.input.email,
        order=cmd.key,
        saga_id=cmd.saga_id,
        idempotency_key=cmd.idempotency_key,
    )
    return Confirmation(message_id=message_id)


@contextlib.asynccontextmanager
async def lifespan(context: AppContext) -> AsyncIterator[Iterable[object]]:
    """Set up once for a worker what the steps use: settings, provider, mailer; and the ledger."""
    settings = PaymentSettings()
    connection = await psycopg.AsyncConnection.connect(context.dsn, autocommit=True)
    async with connection:
        await ledger.install(connection, settings.ledger_schema)
    provider = Provider(
        # A sandbox takes any test key.
        settings.provider_key or SecretStr("sk_test_sandbox"),
        url=settings.provider_url,
        timeout=settings.provider_timeout,
        key_lifetime=settings.provider_key_lifetime,
    )
    mailer = Mailer(
        settings.smtp_host,
        settings.smtp_port,
        sender=settings.mail_from,
        timeout=settings.smtp_timeout,
    )
    try:
        yield settings, provider, mailer
    finally:
        await provider.close()


app = App(sagas=[payment], lifespan=lifespan)

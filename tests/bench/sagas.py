"""What the benchmark's workers run: the payment saga's shape, with a provider inside the process.

Every row that the payment saga of `steps/` writes is written here, with results of the same size
and with the same ledger; only the calls over the network are missing, so that what is measured is
the engine and Postgres.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import psycopg
from pydantic import BaseModel

from outbox import App, AppContext, Command, Rejected, Saga
from steps import ledger
from steps.ledger import Posted
from steps.model import Payment

LEDGER_SCHEMA = "ledger"
CLOSED_MERCHANT = "closed"
"""Its payments fail at the ledger."""
GATE = 0x5A6A_BE4C
"""The advisory lock that the benchmark holds until all its workers stand ready to begin."""


class Intent(BaseModel):
    """A payment intent, as in `steps.provider`, whose client library would weigh on the memory."""

    id: str
    status: str
    amount: int
    currency: str


class Confirmation(BaseModel):
    """The mail that would have been sent."""

    message_id: str


def make_payment(type_: str, *, bulk: bool) -> Saga[Payment]:
    """The payment saga, its ledger step in the one form or the other."""
    saga = Saga(type_, input=Payment)

    @saga.step(state="PAYMENT_INTENT_CREATED", timeout=5)
    async def create_intent(cmd: Command[Payment]) -> Intent:
        """The provider's answer, without the provider."""
        return Intent(
            id=f"pi_{cmd.saga_id.hex[:24]}",
            status="requires_confirmation",
            amount=cmd.input.amount,
            currency=cmd.input.currency,
        )

    @create_intent.compensation(timeout=5)
    async def cancel_intent(cmd: Command[Payment]) -> None:
        """Nothing is there to be canceled."""

    @saga.step(state="PAYMENT_AUTHORIZED", timeout=5)
    async def authorize(cmd: Command[Payment]) -> Intent:
        """Reads the first step's result, as the real one does."""
        return cmd.result(create_intent).model_copy(update={"status": "requires_capture"})

    @authorize.compensation(timeout=5)
    async def void_authorization(cmd: Command[Payment]) -> None:
        """Nothing is there to be voided."""

    if bulk:
        _add_bulk_ledger(saga)
    else:
        _add_ledger(saga)

    @saga.step(timeout=5)
    async def send_confirmation(cmd: Command[Payment]) -> Confirmation:
        """The mail's Message-ID, without the mail."""
        return Confirmation(message_id=f"<{cmd.saga_id.hex}@payments.example>")

    return saga


def _add_ledger(saga: Saga[Payment]) -> None:
    @saga.step(state="LEDGER_UPDATED", timeout=5, transactional=True, pivot=True)
    async def update_ledger(cmd: Command[Payment], tx: psycopg.AsyncConnection[Any]) -> Posted:
        """The real ledger, one call a saga."""
        return await ledger.post_debit(
            tx,
            LEDGER_SCHEMA,
            idempotency_key=cmd.idempotency_key,
            saga_id=cmd.saga_id,
            merchant=cmd.input.merchant,
            amount_minor=cmd.input.amount,
            currency=cmd.input.currency,
        )


def _add_bulk_ledger(saga: Saga[Payment]) -> None:
    @saga.step(state="LEDGER_UPDATED", timeout=5, transactional=True, bulk=True, pivot=True)
    async def update_ledger(
        cmds: Sequence[Command[Payment]], tx: psycopg.AsyncConnection[Any]
    ) -> list[Posted | Rejected]:
        """The real ledger, one statement for many sagas."""
        return await ledger.post_debits(tx, LEDGER_SCHEMA, cmds)


payment = make_payment("payment", bulk=False)
bulk_payment = make_payment("payment_in_bulk", bulk=True)


class Nothing(BaseModel):
    """The input of a saga that needs none."""


class Begun(BaseModel):
    """When a handler began, in seconds since 1970 by this machine's clock."""

    at: float


probe = Saga("probe", input=Nothing)


@probe.step(nothing_to_undo="it only looks at the clock")
async def look_at_the_clock(cmd: Command[Nothing]) -> Begun:
    """The instant of the first attempt."""
    return Begun(at=time.time())


waiting = Saga("waiting", input=Payment)


@waiting.step(nothing_to_undo="it only waits", timeout=3600)
async def wait_to_be_cancelled(cmd: Command[Payment]) -> None:
    """A call that takes as long as the worker lives."""
    await asyncio.Event().wait()


LEDGER_FORMS: dict[str, Saga[Payment]] = {
    "transactional": payment,
    "bulk-transactional": bulk_payment,
}
"""The saga in each form that its ledger step can have."""


@contextlib.asynccontextmanager
async def behind_the_gate(context: AppContext) -> AsyncIterator[Iterable[object]]:
    """Lets a worker begin when the benchmark lets go of the gate; at once when nobody holds it."""
    connection = await psycopg.AsyncConnection.connect(context.dsn, autocommit=True)
    async with connection:
        await connection.execute("select pg_advisory_lock_shared(%s)", [GATE])
    yield ()


app = App(sagas=[*LEDGER_FORMS.values(), probe, waiting], lifespan=behind_the_gate)
"""For measures of one type the others cost a claim one empty index scan each."""
payment_app = App(sagas=[*LEDGER_FORMS.values()], lifespan=behind_the_gate)

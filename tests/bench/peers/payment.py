"""The four steps of `tests.bench.sagas.payment`, without an engine: JSON in, JSON out.

The results are as large as those of the benchmark's own saga, and the ledger is the real one.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

Json = dict[str, Any]

POST_DEBIT = """
select jsonb_build_object('entry', entry.id) from ledger.post_debit(
    %(key)s, %(saga)s, %(merchant)s, %(amount)s, %(currency)s) as entry
"""
"""Posts the debit and answers with the entry's number; see `steps/ledger.sql`."""


def create_intent(saga: UUID, payment: Json) -> Json:
    """The provider's answer, without the provider."""
    return {
        "id": f"pi_{saga.hex[:24]}",
        "status": "requires_confirmation",
        "amount": payment["amount"],
        "currency": payment["currency"],
    }


def authorize(intent: Json) -> Json:
    """Reads the first step's result, as the real one does."""
    return {**intent, "status": "requires_capture"}


def debit(saga: UUID, payment: Json) -> Json:
    """The parameters of `POST_DEBIT`."""
    return {
        "key": f"payment/{saga}/update_ledger",
        "saga": saga,
        "merchant": payment["merchant"],
        "amount": payment["amount"],
        "currency": payment["currency"],
    }


def send_confirmation(saga: UUID) -> Json:
    """The mail's Message-ID, without the mail."""
    return {"message_id": f"<{saga.hex}@payments.example>"}

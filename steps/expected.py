"""What must come of a payment, read off its input alone: the yardstick of the demo and the tests.

The sandbox's faults are written into the input, so the end of every saga is known before it runs.
What is not: how often it was tried, and how long that took.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from steps.model import Payment
from steps.sandbox import faults
from steps.sandbox.cards import decline_for
from steps.sandbox.faults import Fault, Operation
from steps.sandbox.intents import SUPPORTED_CURRENCIES

CLOSED_MERCHANT = "closed-books"
"""The merchant whose ledger account the demo closes before it starts."""
REFUSED_DOMAIN = "refused.example"
"""The domain for which the demo's mail server refuses every recipient with 550."""
ATTEMPTS = 5
"""How often the saga tries a step; a test compares it with the saga's policy."""

Status = Literal["COMPLETED", "FAILED", "SUSPENDED"]


@dataclass(frozen=True, slots=True)
class Expected:
    """The end of one payment.

    Args:
        status: of its saga.
        effects: how often each operation took effect at the provider; what is not named, never.
        debits: ledger entries that take from the merchant.
        credits: ledger entries that give back.
        mails: mails delivered, counted by Message-ID.
    """

    status: Status
    effects: Mapping[str, int] = field(default_factory=dict)
    debits: int = 0
    credits: int = 0
    mails: int = 0


@dataclass(frozen=True, slots=True)
class _Called:
    """What calling the provider came to: did the saga learn of it, and did it happen."""

    answered: bool
    took_effect: bool


def expected_end(payment: Payment) -> Expected:
    """Say how the saga of this payment must end.

    Args:
        payment: its input, with one saga of its own.

    Returns:
        What the engine, the provider, the ledger and the mailbox must show.
    """
    if payment.currency not in SUPPORTED_CURRENCIES:
        return Expected("FAILED")
    created = _call(payment, Operation.CREATE)
    if not created.answered:
        # The undo looks for the intent, and cancels what it finds.
        return Expected("FAILED", {"create": 1, "cancel": 1} if created.took_effect else {})
    undone = {"create": 1, "cancel": 1}
    confirmed = _call(payment, Operation.CONFIRM)
    if decline_for(payment.payment_method) is not None:
        return Expected("FAILED", undone | ({"decline": 1} if confirmed.took_effect else {}))
    if not confirmed.answered:
        return Expected("FAILED", undone | ({"authorize": 1} if confirmed.took_effect else {}))
    if payment.merchant == CLOSED_MERCHANT:
        return Expected("FAILED", undone | {"authorize": 1})
    paid = {"create": 1, "authorize": 1}
    if payment.email is None:
        return Expected("COMPLETED", paid, debits=1)
    if payment.email.endswith(f"@{REFUSED_DOMAIN}"):
        return Expected("SUSPENDED", paid, debits=1)
    return Expected("COMPLETED", paid, debits=1, mails=1)


def _call(payment: Payment, operation: Operation) -> _Called:
    rules = faults.parse(payment.sandbox_fault or "")
    took_effect = False
    stored: Literal["answer", "error"] | None = None
    for request in range(1, ATTEMPTS + 1):
        fault = faults.fault_for(rules, operation, request)
        if fault in {Fault.RATE_LIMIT, Fault.DROP_BEFORE, Fault.TIMEOUT_BEFORE}:
            continue
        if stored is None:
            took_effect = fault is not Fault.ERROR_500
            stored = "error" if fault in {Fault.ERROR_500, Fault.ERROR_500_AFTER} else "answer"
        if stored == "answer" and fault not in {Fault.DROP_AFTER, Fault.TIMEOUT_AFTER}:
            return _Called(answered=True, took_effect=True)
    return _Called(answered=False, took_effect=took_effect)

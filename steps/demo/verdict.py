"""Comparing what was found of payments with what must be: the yardstick, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from steps.demo.scenario import Mismatch as Mismatch
from steps.expected import Expected, expected_end
from steps.ledger import Entry
from steps.model import Payment


@dataclass(frozen=True, slots=True)
class IntentFound:
    """An intent as the provider shows it at the end."""

    status: str
    amount: int
    currency: str


@dataclass(slots=True)
class Found:
    """What there is of one payment, everywhere.

    Args:
        status: of its saga; ``None`` when there is no saga.
        effects: how often each operation took effect at the provider.
        intents: at the provider.
        entries: in the ledger.
        mails: recipients by Message-ID; a mail that came twice is one.
    """

    status: str | None = None
    effects: dict[str, int] = field(default_factory=dict)
    intents: list[IntentFound] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    mails: dict[str, str] = field(default_factory=dict)

    def count(self, direction: str) -> int:
        """How many ledger entries are debits, or credits."""
        return sum(entry.direction == direction for entry in self.entries)


def compare(payments: Mapping[str, Payment], found: Mapping[str, Found]) -> list[Mismatch]:
    """Judge a run.

    Args:
        payments: what was asked for, by key.
        found: what there is, by key; what belongs to no payment, under any other key.

    Returns:
        Every difference; none when all is as the inputs say.
    """
    mismatches: list[Mismatch] = []
    for key, payment in payments.items():
        mismatches += _compare_one(key, payment, expected_end(payment), found.get(key, Found()))
    mismatches += [
        Mismatch(key, "what there is of it", "nothing, for nobody asked for it", _describe(stray))
        for key, stray in found.items()
        if key not in payments
    ]
    return mismatches


def _compare_one(
    key: str, payment: Payment, expected: Expected, found: Found
) -> Iterator[Mismatch]:
    # Counts first; then whether what is there once is also the right one.
    pairs: list[tuple[str, object, object]] = [
        ("the saga's status", expected.status, found.status or "no saga")
    ]
    pairs += [
        (
            f"effects of {operation} at the provider",
            expected.effects.get(operation, 0),
            found.effects.get(operation, 0),
        )
        for operation in sorted(expected.effects.keys() | found.effects.keys())
    ]
    pairs += [
        ("intents at the provider", expected.effects.get("create", 0), len(found.intents)),
        ("debits in the ledger", expected.debits, found.count("debit")),
        ("credits in the ledger", expected.credits, found.count("credit")),
        ("mails delivered", expected.mails, len(found.mails)),
    ]
    intent = IntentFound(_intent_status(expected), payment.amount, payment.currency)
    pairs += [("the intent", intent, other) for other in found.intents]
    entry = (payment.merchant, payment.amount, payment.currency)
    pairs += [
        (f"the {other.direction}", entry, (other.merchant, other.amount_minor, other.currency))
        for other in found.entries
    ]
    pairs += [("the mail's recipient", payment.email, to) for to in found.mails.values()]
    for what, wanted, actual in pairs:
        if wanted != actual:
            yield Mismatch(key, what, wanted, actual)


def _intent_status(expected: Expected) -> str:
    return "canceled" if expected.effects.get("cancel") else "requires_capture"


def _describe(found: Found) -> str:
    parts = [f"a saga that is {found.status}"] if found.status else []
    parts += [f"{count} x {operation}" for operation, count in found.effects.items()]
    parts += [f"a {entry.direction} of {entry.amount_minor}" for entry in found.entries]
    parts += [f"a mail to {recipient}" for recipient in found.mails.values()]
    return ", ".join(parts) or "an intent"

"""``python -m steps.make_payments``: write the demo's file of payments again, always the same."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

from steps.expected import CLOSED_MERCHANT, REFUSED_DOMAIN
from steps.model import Payment
from steps.sandbox.cards import ACCEPTED_CARDS, DECLINED_CARDS
from steps.sandbox.intents import SUPPORTED_CURRENCIES

TARGET = Path(__file__).with_name("data") / "payments.jsonl"
COUNT = 1000
CUSTOMERS = 400
MERCHANTS = ("bakery", "books", "cinema", "florist", "garage", "tailor")
# Retries run out on these, which takes seconds: few of them, and early in the file.
NEVER_ANSWERED = (
    "confirm:timeout_before:*",
    "confirm:timeout_after:*",
    "confirm:drop_after:*",
    "create:drop_after:*",
    "create:error_500:1",
    "create:error_500_after:1",
    "confirm:error_500_after:1",
)
RECOVERING = (
    "create:slow:1",
    "create:rate_limit:2",
    "create:drop_before:1",
    "create:drop_after:1",
    "create:drop_after:2",
    "create:timeout_after:1",
    "confirm:slow:1",
    "confirm:rate_limit:2",
    "confirm:drop_before:1",
    "confirm:drop_after:1",
    "confirm:drop_after:2",
    "confirm:rate_limit:1;confirm:drop_after:1",
)
UNDO_TROUBLED = (
    "cancel:error_500:1",
    "cancel:error_500_after:1",
    "cancel:drop_before:1",
    "cancel:drop_after:1",
    "cancel:rate_limit:1",
)


def payments() -> Iterator[tuple[str, Payment]]:
    """Make the demo's payments.

    Returns:
        Pairs of a saga's key and its input: about nine in ten go through.
    """
    chance = random.Random(2)
    troubles = _troubles(chance)
    for number in range(COUNT):
        plain = plain_payment(chance)
        yield f"order-{number + 1:04}", Payment.model_validate(plain | troubles.get(number, {}))


def plain_payment(chance: random.Random) -> dict[str, object]:
    """Make a payment that meets no trouble.

    Args:
        chance: draws what it is of.

    Returns:
        A payment's fields.
    """
    customer = chance.randrange(CUSTOMERS)
    return {
        "amount": chance.randrange(100, 50_000),
        "currency": chance.choice(sorted(SUPPORTED_CURRENCIES)),
        "merchant": chance.choice(MERCHANTS),
        "customer": f"cus_{customer:04}",
        "payment_method": chance.choice(sorted(ACCEPTED_CARDS)),
        "email": f"customer-{customer:04}@example.com",
    }


def _troubles(chance: random.Random) -> dict[int, dict[str, str]]:
    declined = sorted(DECLINED_CARDS)
    troubles = [{"payment_method": declined[n % len(declined)]} for n in range(45)]
    troubles += [
        {"payment_method": declined[n], "sandbox_fault": fault}
        for n, fault in enumerate(UNDO_TROUBLED)
    ]
    troubles += [{"merchant": CLOSED_MERCHANT} for _ in range(10)]
    troubles += [{"currency": "xts"} for _ in range(3)]
    troubles += [{"sandbox_fault": fault} for fault in RECOVERING * 2]
    troubles += [{"email": f"customer-{n}@{REFUSED_DOMAIN}"} for n in range(4)]
    early = chance.sample(range(40), len(NEVER_ANSWERED))
    anywhere = chance.sample(range(40, COUNT), len(troubles))
    return {
        **{n: {"sandbox_fault": fault} for n, fault in zip(early, NEVER_ANSWERED, strict=True)},
        **dict(zip(anywhere, troubles, strict=True)),
    }


def main() -> None:
    """Write the file, or the one named as the only argument."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET
    with target.open("w", encoding="utf-8") as lines:
        for key, payment in payments():
            body = payment.model_dump_json(exclude_none=True)
            lines.write(f'{{"key": "{key}", "input": {body}}}\n')


if __name__ == "__main__":
    main()

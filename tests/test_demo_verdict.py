"""The yardstick that the demo judges itself by: what is wrong is named."""

import uuid

from steps.demo.report import percentile
from steps.demo.verdict import Found, IntentFound, compare
from steps.expected import CLOSED_MERCHANT
from steps.ledger import Entry
from steps.model import Payment


def payment(**changes: object) -> Payment:
    plain = {
        "amount": 1200,
        "currency": "eur",
        "merchant": "bakery",
        "customer": "cus_1",
        "payment_method": "pm_card_visa",
        "email": "anna@example.com",
    }
    return Payment.model_validate(plain | changes)


def entry(direction: str, number: int = 1, amount: int = 1200) -> Entry:
    return Entry.model_validate(
        {
            "id": number,
            "idempotency_key": f"key-{number}",
            "saga_id": uuid.uuid4(),
            "merchant": "bakery",
            "amount_minor": amount,
            "currency": "eur",
            "direction": direction,
            "reverses": 1 if direction == "credit" else None,
        }
    )


def paid() -> Found:
    return Found(
        status="COMPLETED",
        effects={"create": 1, "authorize": 1},
        intents=[IntentFound("requires_capture", 1200, "eur")],
        entries=[entry("debit")],
        mails={"<1@shop.example>": "anna@example.com"},
    )


def said(asked: Payment, found: Found) -> list[str]:
    return [str(mismatch) for mismatch in compare({"order-1": asked}, {"order-1": found})]


def test_what_is_as_it_must_be_is_no_mismatch() -> None:
    assert said(payment(), paid()) == []


def test_a_missing_undo_is_named() -> None:
    found = paid()
    found.status, found.entries, found.mails = "FAILED", [], {}
    assert said(payment(merchant=CLOSED_MERCHANT), found) == [
        "order-1: effects of cancel at the provider: expected 1, found 0",
        "order-1: the intent: expected IntentFound(status='canceled', amount=1200, "
        "currency='eur'), found IntentFound(status='requires_capture', amount=1200, "
        "currency='eur')",
    ]


def test_a_double_debit_is_named() -> None:
    found = paid()
    found.entries.append(entry("debit", 2))
    assert said(payment(), found) == ["order-1: debits in the ledger: expected 1, found 2"]


def test_a_credit_that_nobody_asked_for_is_named() -> None:
    found = paid()
    found.entries.append(entry("credit", 2))
    assert said(payment(), found) == ["order-1: credits in the ledger: expected 0, found 1"]


def test_a_double_authorization_is_named() -> None:
    found = paid()
    found.effects["authorize"] = 2
    assert said(payment(), found) == [
        "order-1: effects of authorize at the provider: expected 1, found 2"
    ]


def test_a_missing_mail_is_named() -> None:
    found = paid()
    found.mails = {}
    assert said(payment(), found) == ["order-1: mails delivered: expected 1, found 0"]


def test_the_right_number_of_the_wrong_things_is_named() -> None:
    found = paid()
    found.entries = [entry("debit", amount=12)]
    found.mails = {"<1@shop.example>": "eve@example.com"}
    assert said(payment(), found) == [
        "order-1: the debit: expected ('bakery', 1200, 'eur'), found ('bakery', 12, 'eur')",
        "order-1: the mail's recipient: expected anna@example.com, found eve@example.com",
    ]


def test_a_payment_that_was_lost_and_an_effect_of_nobody_are_named() -> None:
    mismatches = compare({"order-1": payment(email=None)}, {"saga 7": Found(effects={"create": 1})})
    assert [str(mismatch) for mismatch in mismatches] == [
        "order-1: the saga's status: expected COMPLETED, found no saga",
        "order-1: effects of authorize at the provider: expected 1, found 0",
        "order-1: effects of create at the provider: expected 1, found 0",
        "order-1: intents at the provider: expected 1, found 0",
        "order-1: debits in the ledger: expected 1, found 0",
        "saga 7: what there is of it: expected nothing, for nobody asked for it, found 1 x create",
    ]


def test_a_percentile_is_a_value_that_occurred() -> None:
    values = [float(number) for number in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.95, 0.99, 1.0)] == [50, 95, 99, 100]
    assert percentile([3.0], 0.5) == 3.0

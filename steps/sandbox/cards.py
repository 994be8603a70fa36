"""The provider's test cards: tokens that say by themselves what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ACCEPTED_CARDS = frozenset({"pm_card_visa", "pm_card_mastercard", "pm_card_amex"})


@dataclass(frozen=True, slots=True)
class Decline:
    """Why a test card is declined, in the provider's words."""

    code: str
    decline_code: str
    message: str


DECLINED_CARDS: Mapping[str, Decline] = {
    "pm_card_chargeDeclined": Decline(
        "card_declined", "generic_decline", "Your card was declined."
    ),
    "pm_card_chargeDeclinedInsufficientFunds": Decline(
        "card_declined", "insufficient_funds", "Your card has insufficient funds."
    ),
    "pm_card_chargeDeclinedLostCard": Decline(
        "card_declined", "lost_card", "Your card was declined."
    ),
    "pm_card_chargeDeclinedStolenCard": Decline(
        "card_declined", "stolen_card", "Your card was declined."
    ),
    "pm_card_chargeDeclinedExpiredCard": Decline(
        "expired_card", "expired_card", "Your card has expired."
    ),
    "pm_card_chargeDeclinedIncorrectCvc": Decline(
        "incorrect_cvc", "incorrect_cvc", "Your card's security code is incorrect."
    ),
    "pm_card_chargeDeclinedProcessingError": Decline(
        "processing_error", "processing_error", "An error occurred while processing your card."
    ),
}


def decline_for(payment_method: str) -> Decline | None:
    """Why a test card is declined; ``None`` for one that is not."""
    # The provider has two spellings of its test tokens, with and without the brand.
    return DECLINED_CARDS.get(payment_method.replace("pm_card_visa_charge", "pm_card_charge"))

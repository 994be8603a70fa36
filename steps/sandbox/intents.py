"""The life of a payment intent with manual capture: created, confirmed, canceled."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steps.sandbox import answers, faults
from steps.sandbox.answers import Answer
from steps.sandbox.cards import ACCEPTED_CARDS, decline_for
from steps.sandbox.store import Store

SUPPORTED_CURRENCIES = frozenset({"chf", "eur", "gbp", "jpy", "usd"})
CREATE_PARAMETERS = frozenset(
    {
        "amount",
        "capture_method",
        "confirm",
        "currency",
        "customer",
        "description",
        "off_session",
        "payment_method",
    }
)
CONFIRM_PARAMETERS = frozenset({"off_session", "payment_method"})
CANCEL_PARAMETERS = frozenset({"cancellation_reason"})


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks for: the decoded form, and the key under which it asks."""

    parameters: Mapping[str, str]
    key: str | None


def metadata(parameters: Mapping[str, str]) -> dict[str, str]:
    """The entries of ``metadata[...]`` in a decoded form."""
    prefix = "metadata["
    return {
        name[len(prefix) : -1]: value
        for name, value in parameters.items()
        if name.startswith(prefix) and name.endswith("]")
    }


def create(store: Store, request: Request) -> Answer:
    """Create an intent, and confirm it at once when ``confirm=true``."""
    refusal = _refuse_create(request.parameters)
    if refusal is not None:
        return refusal
    parameters = request.parameters
    payment_method = parameters.get("payment_method")
    document: dict[str, Any] = {
        "id": f"pi_{secrets.token_hex(12)}",
        "object": "payment_intent",
        "amount": int(parameters["amount"]),
        "amount_capturable": 0,
        "amount_received": 0,
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": "manual",
        "created": int(time.time()),
        "currency": parameters["currency"].lower(),
        "customer": parameters.get("customer"),
        "description": parameters.get("description"),
        "last_payment_error": None,
        "livemode": False,
        "metadata": metadata(parameters),
        "payment_method": payment_method,
        "payment_method_types": ["card"],
        "status": "requires_confirmation" if payment_method else "requires_payment_method",
    }
    saga_id = document["metadata"].get("saga_id")
    store.insert_intent(document, saga_id)
    store.record_effect("create", document["id"], saga_id, request.key)
    if parameters.get("confirm") == "true":
        return _charge(store, document, request.key)
    return answers.success(document)


def confirm(store: Store, document: dict[str, Any], request: Request) -> Answer:
    """Authorize the intent's amount, or decline it as its test card says."""
    refusal = _refuse_unknown(request.parameters, CONFIRM_PARAMETERS)
    if refusal is not None:
        return refusal
    payment_method = request.parameters.get("payment_method", document["payment_method"])
    if payment_method is None or document["status"] not in {
        "requires_confirmation",
        "requires_payment_method",
    }:
        return answers.unexpected_state(document, "confirm")
    refusal = _refuse_card(payment_method)
    if refusal is not None:
        return refusal
    return _charge(store, {**document, "payment_method": payment_method}, request.key)


def cancel(store: Store, document: dict[str, Any], request: Request) -> Answer:
    """Cancel the intent, which also releases what it authorized."""
    refusal = _refuse_unknown(request.parameters, CANCEL_PARAMETERS)
    if refusal is not None:
        return refusal
    if document["status"] in {"canceled", "succeeded"}:
        return answers.unexpected_state(document, "cancel")
    canceled = {
        **document,
        "status": "canceled",
        "amount_capturable": 0,
        "canceled_at": int(time.time()),
        "cancellation_reason": request.parameters.get("cancellation_reason"),
    }
    store.update_intent(canceled)
    store.record_effect("cancel", canceled["id"], canceled["metadata"].get("saga_id"), request.key)
    return answers.success(canceled)


def _charge(store: Store, document: dict[str, Any], key: str | None) -> Answer:
    saga_id = document["metadata"].get("saga_id")
    decline = decline_for(document["payment_method"])
    if decline is None:
        authorized = {
            **document,
            "status": "requires_capture",
            "amount_capturable": document["amount"],
            "last_payment_error": None,
        }
        store.update_intent(authorized)
        store.record_effect("authorize", document["id"], saga_id, key)
        return answers.success(authorized)
    declined = {
        **document,
        # The provider detaches a card that failed: another one has to be given.
        "payment_method": None,
        "status": "requires_payment_method",
        "last_payment_error": {
            "type": "card_error",
            "code": decline.code,
            "decline_code": decline.decline_code,
            "message": decline.message,
        },
    }
    store.update_intent(declined)
    store.record_effect("decline", document["id"], saga_id, key)
    return answers.failure(
        402,
        "card_error",
        decline.message,
        code=decline.code,
        decline_code=decline.decline_code,
        payment_intent=declined,
    )


def _refuse_create(parameters: Mapping[str, str]) -> Answer | None:
    refusal = _refuse_unknown(parameters, CREATE_PARAMETERS)
    if refusal is not None:
        return refusal
    for name in ("amount", "currency"):
        if name not in parameters:
            return answers.invalid(
                f"Missing required param: {name}.", parameter=name, code="parameter_missing"
            )
    amount = parameters["amount"]
    if not amount.isascii() or not amount.isdigit() or not 1 <= int(amount) <= 99_999_999:
        return answers.invalid(
            f"Invalid amount: {amount}; it is an integer in the smallest unit of the currency, "
            "from 1 to 99999999",
            parameter="amount",
            code="parameter_invalid_integer",
        )
    if parameters["currency"].lower() not in SUPPORTED_CURRENCIES:
        return answers.invalid(
            f"Invalid currency: {parameters['currency']}. This account supports: "
            f"{', '.join(sorted(SUPPORTED_CURRENCIES))}",
            parameter="currency",
        )
    customer = parameters.get("customer")
    if customer is not None and not customer.startswith("cus_"):
        return answers.invalid(
            f"No such customer: '{customer}'", parameter="customer", code="resource_missing"
        )
    if parameters.get("capture_method") != "manual":
        return answers.invalid(
            "The sandbox only knows capture_method=manual", parameter="capture_method"
        )
    if "payment_method" in parameters:
        refusal = _refuse_card(parameters["payment_method"])
        if refusal is not None:
            return refusal
    return _refuse_fault(metadata(parameters))


def _refuse_fault(entries: Mapping[str, str]) -> Answer | None:
    try:
        faults.parse(entries.get(faults.METADATA_KEY, ""))
    except ValueError as error:
        return answers.invalid(str(error), parameter=f"metadata[{faults.METADATA_KEY}]")
    return None


def _refuse_card(payment_method: str) -> Answer | None:
    if payment_method in ACCEPTED_CARDS or decline_for(payment_method) is not None:
        return None
    return answers.invalid(
        f"No such PaymentMethod: '{payment_method}'",
        parameter="payment_method",
        code="resource_missing",
    )


def _refuse_unknown(parameters: Mapping[str, str], known: frozenset[str]) -> Answer | None:
    for name in parameters:
        base = name.partition("[")[0]
        if name not in known and base not in {"automatic_payment_methods", "metadata"}:
            return answers.invalid(
                f"Received unknown parameter: {name}", parameter=name, code="parameter_unknown"
            )
    return None

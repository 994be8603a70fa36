"""The provider's answers: an intent, a list, or an error in the provider's own words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, before it becomes one on the wire.

    Args:
        status: the HTTP status.
        text: the JSON body.
        headers: further headers.
        remember: whether the same idempotency key is to get it again. The provider remembers what
            it executed, also when that failed, and forgets what it refused to begin.
    """

    status: int
    text: str
    headers: Mapping[str, str] = field(default_factory=dict)
    remember: bool = True


def success(document: Mapping[str, Any]) -> Answer:
    """200 with a document."""
    return Answer(200, json.dumps(document))


def page(documents: list[dict[str, Any]], limit: int, *, url: str, kind: str = "list") -> Answer:
    """One page of documents, given one more than ``limit`` of them when there are more pages."""
    body: dict[str, Any] = {
        "object": kind,
        "data": documents[:limit],
        "has_more": len(documents) > limit,
        "url": url,
    }
    if kind == "search_result":
        body["next_page"] = None
    return success(body)


def failure(
    status: int,
    kind: str,
    message: str,
    *,
    code: str | None = None,
    parameter: str | None = None,
    headers: Mapping[str, str] | None = None,
    remember: bool = True,
    **details: Any,
) -> Answer:
    """An error in the provider's form; ``details`` go beside its message."""
    error: dict[str, Any] = {"type": kind, "message": message, **details}
    if code is not None:
        error["code"] = code
    if parameter is not None:
        error["param"] = parameter
    return Answer(status, json.dumps({"error": error}), headers or {}, remember)


def invalid(message: str, *, parameter: str | None = None, code: str | None = None) -> Answer:
    """400 for parameters that do not make sense: refused before anything is begun."""
    return failure(
        400, "invalid_request_error", message, code=code, parameter=parameter, remember=False
    )


def unknown_intent(intent_id: str) -> Answer:
    """404 for an intent that was never created."""
    return failure(
        404,
        "invalid_request_error",
        f"No such payment_intent: '{intent_id}'",
        code="resource_missing",
        parameter="intent",
        remember=False,
    )


def unexpected_state(document: Mapping[str, Any], verb: str) -> Answer:
    """400 for an intent whose status does not allow what was asked."""
    return failure(
        400,
        "invalid_request_error",
        f"You cannot {verb} this PaymentIntent because it has a status of {document['status']}.",
        code="payment_intent_unexpected_state",
        payment_intent=document,
    )


def unauthorized() -> Answer:
    """401 for a request without a key that could be one."""
    return failure(
        401,
        "invalid_request_error",
        "You did not provide an API key; the sandbox takes any that begins with sk_test_.",
        remember=False,
    )


def key_in_use(key: str) -> Answer:
    """409 for a key whose first request is still being served."""
    return failure(
        409,
        "idempotency_error",
        f"There is currently another in-progress request using this idempotency key: {key}.",
        code="idempotency_key_in_use",
        remember=False,
    )


def key_with_other_parameters(key: str) -> Answer:
    """400 for a key that was used for something else."""
    return failure(
        400,
        "idempotency_error",
        "Keys for idempotent requests can only be used with the same parameters they were first "
        f"used with. Try using a key other than '{key}' if you meant to execute a different "
        "request.",
        remember=False,
    )


def rate_limited(retry_after: int) -> Answer:
    """429 that asks to come back in ``retry_after`` seconds."""
    return failure(
        429,
        "invalid_request_error",
        "Too many requests; try again later.",
        code="rate_limit",
        headers={"Retry-After": str(retry_after)},
        remember=False,
    )


def internal_error() -> Answer:
    """500: the provider failed, and will say so again to the same key."""
    return failure(500, "api_error", "An unknown error occurred.")

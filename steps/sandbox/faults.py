"""Trouble on request: what a payment's ``sandbox_fault`` metadata may say, and what it means.

``create:drop_after:2`` says that the first two *create* requests of this saga take effect and are
never answered. Several rules are separated by ``;``; rules for the same operation follow one
another, so ``confirm:rate_limit:1;confirm:drop_after:1`` troubles the first request in one way and
the second in the other. ``*`` instead of a number means every request from there on.
"""

from __future__ import annotations

import enum
import functools
from dataclasses import dataclass

METADATA_KEY = "sandbox_fault"


class Operation(enum.StrEnum):
    """What a request asks for."""

    CREATE = "create"
    CONFIRM = "confirm"
    CANCEL = "cancel"
    RETRIEVE = "retrieve"
    LIST = "list"


class Fault(enum.StrEnum):
    """What goes wrong with a request."""

    SLOW = "slow"
    """Answered properly, but late (``--slow`` seconds)."""
    ERROR_500 = "error_500"
    """Nothing done, 500; stored like any answer, so the same key gets it again."""
    ERROR_500_AFTER = "error_500_after"
    """The effect done, then 500; stored likewise."""
    RATE_LIMIT = "rate_limit"
    """Nothing done, 429 with Retry-After; not stored."""
    DROP_BEFORE = "drop_before"
    """Nothing done, the connection closed without an answer."""
    DROP_AFTER = "drop_after"
    """The effect done and its answer stored, the connection closed without an answer."""
    TIMEOUT_BEFORE = "timeout_before"
    """Nothing done, and no answer for as long as the client cares to wait."""
    TIMEOUT_AFTER = "timeout_after"
    """The effect done and its answer stored, and no answer likewise."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One fault for the next ``times`` requests of an operation; ``None`` means for ever."""

    operation: Operation
    fault: Fault
    times: int | None


@functools.lru_cache(maxsize=1024)
def parse(text: str) -> tuple[Rule, ...]:
    """Read rules as they stand in a payment's metadata.

    Args:
        text: rules ``operation:fault:times`` separated by ``;``.

    Returns:
        The rules in the order in which they were written.

    Raises:
        ValueError: a rule is malformed; the message names it and what it may be.
    """
    return tuple(_parse_rule(part.strip()) for part in text.split(";") if part.strip())


def _parse_rule(text: str) -> Rule:
    try:
        operation, fault, times = text.split(":")
        count = None if times == "*" else int(times)
        rule = Rule(Operation(operation), Fault(fault), count)
    except ValueError as error:
        raise ValueError(
            f"{text!r} is not a fault rule; write operation:fault:times with an operation of "
            f"{', '.join(Operation)}, a fault of {', '.join(Fault)}, and a count or * for times"
        ) from error
    if count is not None and count < 1:
        raise ValueError(f"{text!r} asks for {count} times; use 1 or more, or * for always")
    return rule


def fault_for(rules: tuple[Rule, ...], operation: Operation, request: int) -> Fault | None:
    """Choose what goes wrong with one request.

    Args:
        rules: the rules of the payment.
        operation: what the request asks for.
        request: which request of that operation it is for this payment, from 1.

    Returns:
        The fault, or ``None`` when the request is to be served properly.
    """
    before = 0
    for rule in rules:
        if rule.operation is not operation:
            continue
        if rule.times is None or request <= before + rule.times:
            return rule.fault
        before += rule.times
    return None

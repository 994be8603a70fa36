"""What an attempt came to, and how a handler says so."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from outbox.definition.retry import Retry

_MESSAGE_LIMIT = 4000
# An escaped NUL, not a backslash that is itself escaped and followed by u0000.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


class Rejected(Exception):
    """Raised by a handler: the step had no effect, and another attempt is pointless.

    Args:
        message: why, for people.
        code: why, for programs (``"insufficient_funds"``).
    """

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class RetryAfter(Exception):
    """Raised by a handler: try again, but not before ``seconds`` from now.

    Args:
        seconds: how long to wait, instead of the policy's backoff.
        message: why, for people.
        no_effect: True when this attempt is known to have had no effect.
    """

    def __init__(
        self, seconds: float, message: str = "asked to wait", *, no_effect: bool = False
    ) -> None:
        super().__init__(message)
        self.seconds = max(0.0, seconds)
        self.no_effect = no_effect


@dataclass(frozen=True, slots=True)
class Done:
    """The step has had its effect; ``result`` is JSON text, or None for no result."""

    result: str | None


@dataclass(frozen=True, slots=True)
class Retried:
    """The attempt failed and may be made again; ``after`` seconds override the policy's wait."""

    error: dict[str, Any]
    no_effect: bool = False
    give_up: bool = False
    after: float | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The step had no effect and another attempt is pointless."""

    error: dict[str, Any]


@dataclass(frozen=True, slots=True)
class InDoubt:
    """The effect may or may not have happened: a timeout, or an end in mid-step.

    ``counted`` is False when the policy's attempts are not to be reduced by it.
    """

    error: dict[str, Any]
    counted: bool = True


Outcome = Done | Retried | Refused | InDoubt


def describe(error: BaseException) -> dict[str, Any]:
    """An exception as the JSON that history keeps: type, message, and a code where it has one."""
    message = (str(error) or type(error).__name__)[:_MESSAGE_LIMIT]
    described: dict[str, Any] = {"type": type(error).__name__, "message": storable(message)}
    code = getattr(error, "code", None)
    if isinstance(code, str | int) and not isinstance(code, bool):
        described["code"] = storable(code) if isinstance(code, str) else code
    return described


def storable(text: str) -> str:
    """Text that Postgres can keep: NUL and lone surrogates become the replacement character."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def has_nul(json_text: str) -> bool:
    """Whether a text in JSON contains a NUL character, which Postgres cannot store."""
    return _NUL.search(json_text) is not None


def from_exception(error: Exception, policy: Retry) -> Outcome:
    """The outcome that an exception raised by a handler stands for, under its retry policy."""
    match error:
        case Rejected():
            return Refused(describe(error))
        case RetryAfter():
            return Retried(describe(error), no_effect=error.no_effect, after=error.seconds)
        case _ if isinstance(error, policy.no_effect):
            return Retried(describe(error), no_effect=True)
        case _:
            return Retried(describe(error), give_up=isinstance(error, policy.give_up_on))

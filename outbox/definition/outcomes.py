"""What an attempt came to, and how a handler says so."""

from __future__ import annotations

import os
import re
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from outbox.definition.retry import Retry

_MESSAGE_LIMIT = 4000
_TRACEBACK_LIMIT = 8000
_OURS = f"{Path(__file__).parents[1]}{os.sep}"
_PYTHONS = f"{Path(os.__file__).parent}{os.sep}"
_LARGEST_CODE = 2**53
# Beyond any provider's, and within what Postgres can add to the present.
_LONGEST_WAIT = 366 * 86400.0
# An escaped NUL, not a backslash that is itself escaped and followed by u0000.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


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
        seconds: how long to wait, instead of the policy's backoff; at most a year.
        message: why, for people.
        no_effect: True when this attempt is known to have had no effect.
    """

    def __init__(
        self, seconds: float, message: str = "asked to wait", *, no_effect: bool = False
    ) -> None:
        super().__init__(message)
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise TypeError(f"RetryAfter takes a number of seconds, not {seconds!r}")
        self.seconds = min(max(0.0, seconds), _LONGEST_WAIT)
        self.no_effect = no_effect


@dataclass(frozen=True, slots=True)
class Done:
    """The step has had its effect; ``result`` is JSON in UTF-8, or None for no result."""

    result: bytes | None


@dataclass(frozen=True, slots=True)
class Retried:
    """The attempt failed and may be made again; ``after`` seconds override the policy's wait.
    ``traceback`` is for the log: of an exception that the policy does not expect."""

    error: dict[str, Any]
    no_effect: bool = False
    give_up: bool = False
    after: float | None = None
    traceback: str | None = field(default=None, compare=False, repr=False)


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


@dataclass(frozen=True, slots=True)
class Suspended:
    """The command has to be looked at by a person, who decides how it goes on."""

    error: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Skipped:
    """The step's condition did not hold."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Of a choice, the place of the alternative, from 0; None for none of them."""

    place: int | None


@dataclass(frozen=True, slots=True)
class Branched:
    """Lines begin side by side: one for each of the ``elements`` (a JSON array in UTF-8), or for
    each branch of a group."""

    elements: bytes | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """The command waits; ``plan`` is what the SQL function ``line_waits`` takes, JSON in UTF-8."""

    plan: bytes


Failure = Retried | Refused | InDoubt | Suspended
Decision = Skipped | Chosen | Branched | Waiting
Outcome = Done | Failure | Decision


class Happened:
    """Returned by a reconcile: the step has had its effect.

    Args:
        result: what the step's handler would have returned.
    """

    def __init__(self, result: Any = None) -> None:
        self.result = result


class NotDone:
    """Returned by a reconcile: the step has had no effect, and will have none any more.

    Args:
        reason: for people.
    """

    def __init__(self, reason: str = "the step has had no effect") -> None:
        self.reason = reason


class Unknown:
    """Returned by a reconcile: nobody can say whether the step has had its effect; the saga is
    suspended.

    Args:
        reason: for people.
    """

    def __init__(self, reason: str = "it cannot be found out") -> None:
        self.reason = reason


def describe(error: BaseException) -> dict[str, Any]:
    """An exception as the JSON that history keeps: type, message, and a code where it has one."""
    name = type(error).__name__
    try:
        message, code = _said(error) or name, getattr(error, "code", None)
    except Exception:  # noqa: BLE001 - it cannot even say what it is; its type then has to do
        message, code = name, None
    described: dict[str, Any] = {"type": name, "message": storable(message[:_MESSAGE_LIMIT])}
    match code:
        case str():
            described["code"] = storable(code[:_MESSAGE_LIMIT])
        case int() if not isinstance(code, bool):
            # A larger one is no number to the readers of JSON.
            described["code"] = int(code) if abs(code) <= _LARGEST_CODE else str(code)
    return described


def _said(error: BaseException) -> str:
    """What an exception says; of a model's, without its layout and its links."""
    if not isinstance(error, ValidationError):
        return str(error)
    problems = [
        f"{'.'.join(map(str, p['loc'])) or 'it'}: {p['msg']} (got {p['input']!r:.60})"
        for p in error.errors(include_url=False, include_context=False)
    ]
    return f"{error.title}: {'; '.join(problems)}"


def storable(text: str) -> str:
    """Text that Postgres can keep: NUL and lone surrogates become the replacement character."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def has_nul(json: bytes) -> bool:
    """Whether a text in JSON contains a NUL character, which Postgres cannot store."""
    return b"\\u0000" in json and _NUL.search(json) is not None


def json_problem(error: Exception) -> str:
    """Why a value cannot be written as JSON, in words for whoever gave it."""
    text = str(error)
    return "it is nested too deep, in more than 254 levels" if "Recursion limit" in text else text


def from_exception(error: BaseException, policy: Retry) -> Outcome:
    """The outcome that an exception raised by a handler stands for, under its retry policy."""
    match error:
        case Rejected():
            return Refused(describe(error))
        case RetryAfter():
            return Retried(describe(error), no_effect=error.no_effect, after=error.seconds)
        case _ if isinstance(error, policy.no_effect):
            give_up = isinstance(error, policy.give_up_on)
            return Retried(describe(error), no_effect=True, give_up=give_up)
        case _:
            give_up = isinstance(error, policy.give_up_on)
            return Retried(describe(error), give_up=give_up, traceback=trace(error))


def trace(error: BaseException) -> str | None:
    """Where an exception comes from, for a log: from the first call that is neither the engine's
    nor Python's own, as a rule the handler's. None: there is none."""
    begins = error.__traceback__
    while begins is not None and _is_on_the_way(begins.tb_frame.f_code.co_filename):
        begins = begins.tb_next
    if begins is None:
        return None
    try:
        lines = traceback.format_exception(type(error), error, begins)
    except Exception:  # noqa: BLE001 - it cannot even say what it is
        return None
    return "".join(lines).rstrip()[-_TRACEBACK_LIMIT:]


def _is_on_the_way(file: str) -> bool:
    return file.startswith(_OURS) or (file.startswith(_PYTHONS) and "site-packages" not in file)

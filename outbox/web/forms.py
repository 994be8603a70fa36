"""Values that people write into forms."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

import orjson

from outbox.errors import InputError

_LONG = re.compile(r"[0-9]{19}")
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d|w)")
_UNITS = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def duration_of(text: str) -> timedelta:
    """A duration such as 90s, 5m, 2h, 1d, 4w or 1h30m.

    Raises:
        InputError: it is none.
    """
    compact = text.replace(" ", "").lower()
    parts = _PART.findall(compact)
    if not parts or "".join(number + unit for number, unit in parts) != compact:
        raise InputError(f"{text!r} is not a duration such as 90s, 5m, 2h, 1d or 1h30m")
    try:
        return sum((timedelta(**{_UNITS[unit]: float(n)}) for n, unit in parts), timedelta())
    except OverflowError:
        raise InputError(f"{text!r} is too long") from None


def json_of(text: str) -> Any:
    """JSON that somebody wrote.

    Raises:
        ValueError: it is malformed.
    """
    parsed = orjson.loads(text)
    # As in the API: an integer beyond 64 bits would be a float now, and another number. As an
    # integer it is refused when it is to be stored.
    try:
        return json.loads(text) if _LONG.search(text) else parsed
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def whole_number(text: str, name: str) -> int:
    """A number of a form, 0 or more.

    Raises:
        InputError: it is none.
    """
    if not re.fullmatch(r"\d{1,9}", text):
        raise InputError(f"{name}: {text!r} is not a whole number from 0 on")
    return int(text)

"""Values that people write into forms."""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

from outbox.errors import InputError

_LONG = re.compile(r"[0-9]{19}")


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

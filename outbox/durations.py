"""Durations as people write them: on a command line, in a form, in a query."""

from __future__ import annotations

import re
from datetime import timedelta

from outbox.errors import InputError

_PART = re.compile(
    r"(\d+(?:\.\d+)?)"
    r"(s(?:ec(?:ond)?s?)?|m(?:in(?:ute)?s?)?|h(?:ours?)?|d(?:ays?)?|w(?:eeks?)?)"
)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def duration_of(text: str) -> timedelta:
    """A duration such as 90s, 5m, 2h, 1d, 4w or 1h30m; also "5 min", "2 hours", "1 day".

    Raises:
        InputError: it is none.
    """
    compact = text.replace(" ", "").lower()
    parts = _PART.findall(compact)
    if not parts or "".join(number + unit for number, unit in parts) != compact:
        raise InputError(f"{text!r} is not a duration such as 90s, 5m, 2h, 1d or 1h30m")
    try:
        return sum((timedelta(**{_UNITS[unit[0]]: float(n)}) for n, unit in parts), timedelta())
    except OverflowError:
        raise InputError(f"{text!r} is too long") from None

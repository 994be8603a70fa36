"""Instants and durations as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import typer

_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|w)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_instant(text: str | datetime) -> datetime:
    """An instant in ISO 8601; UTC where it names no offset.

    Raises:
        typer.BadParameter: it is none.
    """
    if isinstance(text, datetime):
        return text
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not an instant such as 2026-12-24T18:00+01:00"
        ) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def parse_duration(text: str | timedelta) -> timedelta:
    """A duration such as 90s, 5m, 2h, 1d, 4w or 1h30m.

    Raises:
        typer.BadParameter: it is none.
    """
    if isinstance(text, timedelta):
        return text
    compact = text.replace(" ", "").lower()
    parts = _PART.findall(compact)
    if not parts or "".join(number + unit for number, unit in parts) != compact:
        raise typer.BadParameter(f"{text!r} is not a duration such as 90s, 5m, 2h, 1d or 1h30m")
    return sum((timedelta(**{_UNITS[unit]: float(n)}) for n, unit in parts), timedelta())

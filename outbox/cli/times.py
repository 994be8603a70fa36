"""Instants and durations as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import typer

from outbox.durations import duration_of
from outbox.errors import InputError


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
    try:
        return duration_of(text)
    except InputError as error:
        raise typer.BadParameter(str(error)) from None

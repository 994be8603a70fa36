"""Rows as tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson
from rich.table import Table
from rich.text import Text

_WRAPPED = {"what", "error", "reason", "detail", "violated"}
_STYLES = {
    "COMPLETED": "green",
    "FAILED": "red",
    "SUSPENDED": "bold yellow",
    "COMPENSATING": "magenta",
    "EXECUTING": "cyan",
    "done": "green",
    "retry": "yellow",
    "rejected": "red",
    "in_doubt": "bold yellow",
}


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> Table:
    """A table of values; text is never taken for markup."""
    made = Table(title=title, title_justify="left", box=None, header_style="dim", pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold", no_wrap=column not in _WRAPPED)
    for row in rows:
        made.add_row(*(cell(value) for value in row))
    return made


def cell(value: Any) -> Text:
    """A value as text: times to the millisecond, intervals in seconds, JSON as JSON."""
    if value is None:
        return Text("")
    if isinstance(value, datetime):
        return Text(value.astimezone().isoformat(sep=" ", timespec="milliseconds")[:23])
    if isinstance(value, timedelta):
        return Text(interval(value))
    if isinstance(value, dict | list):
        return Text(orjson.dumps(value).decode())
    text = str(value)
    return Text(text, style=_STYLES.get(text, ""))


def interval(value: timedelta) -> str:
    """A duration, short: ``1.234 s``, ``3 min 20 s``, ``2 d 3 h``."""
    seconds = value.total_seconds()
    if abs(seconds) < 60:
        return f"{seconds:.3f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"

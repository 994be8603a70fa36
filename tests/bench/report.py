"""What a run came to: a table for people, a file for programs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

from tests.bench.checks import Check
from tests.bench.scenario import Bench

out = Console(highlight=False, width=None if sys.stdout.isatty() else 170)


def show_facts(facts: Mapping[str, Mapping[str, str]]) -> None:
    """Prints machine, versions and settings."""
    for title, values in facts.items():
        out.print(f"[bold]{title}[/bold]  " + " · ".join(f"{k} {v}" for k, v in values.items()))


def show(bench: Bench) -> None:
    """Prints the measures, then the bars."""
    table = Table(title="Measures", title_justify="left")
    for heading in ("scenario", "measure"):
        table.add_column(heading)
    for heading in ("median", "unit", "spread", "repeats"):
        table.add_column(heading, justify="right")
    for series in bench.measures:
        table.add_row(
            series.scenario,
            series.name,
            number(series.median),
            series.unit,
            f"{series.spread:.0%}",
            str(len(series.values)),
        )
    out.print(table)
    table = Table(title="Bars", title_justify="left")
    for heading in ("", "bar", "value", "to reach", "from"):
        table.add_column(heading)
    for check in bench.checks:
        table.add_row(
            verdict(check),
            check.name,
            "not measured" if check.value is None else f"{number(check.value)} {check.unit}",
            f"{check.sense} {number(check.bar)} {check.unit}",
            check.note,
        )
    if bench.checks:
        out.print(table)
    for note in bench.notes:
        out.print(note)


def verdict(check: Check) -> str:
    """Whether a bar holds, in words."""
    return ("holds" if check.holds else "MISSED") + (" (scaled)" if check.scaled else "")


def number(value: float) -> str:
    """A figure with as many digits as it deserves."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def write_json(bench: Bench, facts: Mapping[str, object], command: str, path: Path) -> None:
    """Writes everything that was measured, each repeat of it, and the checks."""
    document = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "quick": bench.options.quick,
        **facts,
        "measures": [series.to_json() for series in bench.measures],
        "checks": [check.to_json() for check in bench.checks],
        "notes": bench.notes,
    }
    path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))

"""The table at the demo's end, and what is wrong, if anything is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from steps.demo.facts import SagaFound
from steps.demo.scenario import End, Scenario

MOST_SHOWN = 20
BUSY_SHARE = 0.95


@dataclass(frozen=True, slots=True)
class Timing:
    """How long it took, in seconds; sorted lists, an element a settled saga."""

    settled: list[float]
    latency: list[float]
    working: list[float]


def show(console: Console, scenario: Scenario, end: End) -> None:
    """Print the end of the demo.

    Args:
        console: where.
        scenario: what was asked for.
        end: what came of it.
    """
    console.print()
    console.print(_table(scenario, end))
    console.print(scenario.epilogue, style="dim", soft_wrap=True)
    _say_verdict(console, scenario, end)


def _table(scenario: Scenario, end: End) -> Table:
    table = Table(box=box.ROUNDED)
    table.add_column(f"{len(scenario.inputs):,} {scenario.noun}", min_width=38)
    table.add_column("expected", justify="right")
    table.add_column("found", justify="right", min_width=20)

    def compare(label: str, expected: int, found: int) -> None:
        style = "green" if expected == found else "bold red"
        table.add_row(label, f"{expected:,}", Text(f"{found:,}", style=style))

    for section in end.sections:
        for row in section:
            compare(*row)
        table.add_section()
    for label, value in _pace(end.sagas):
        table.add_row(label, "", value)
    table.add_section()
    compare("audit: invariants violated", 0, len(end.violations))
    compare("differences from what the inputs say", 0, len(end.mismatches))
    return table


def _pace(sagas: Sequence[SagaFound]) -> Iterator[tuple[str, str]]:
    timing = _timing(sagas)
    if timing.settled:
        busy, whole = percentile(timing.settled, BUSY_SHARE), timing.settled[-1]
        rate = len(timing.settled) * BUSY_SHARE / max(busy, 0.001)
        yield f"sagas a second until {BUSY_SHARE:.0%} had ended", f"{rate:.0f}"
        yield "sagas a second to the last one", f"{len(timing.settled) / max(whole, 0.001):.0f}"
        yield "latency p50 / p95 / p99, seconds", _percentiles(timing.latency)
        yield "  without the wait for the first step", _percentiles(timing.working)
    attempts = sum(saga.attempts or 0 for saga in sagas)
    retries = sum(saga.retries or 0 for saga in sagas)
    yield "attempts / retries among them", f"{attempts:,} / {retries:,}"


def _say_verdict(console: Console, scenario: Scenario, end: End) -> None:
    if end.violations:
        console.print(f"audit: invariants violated: {len(end.violations):,}", style="bold red")
        _list(console, end.violations)
    else:
        console.print("audit: clean, no invariant is violated", style="green")
    if end.mismatches:
        console.print(
            f"{scenario.noun}: differences from what the inputs say: {len(end.mismatches):,}",
            style="bold red",
        )
        _list(console, [str(mismatch) for mismatch in end.mismatches])
    else:
        console.print(
            f"{scenario.noun}: all {len(scenario.inputs):,} ended as their inputs say, "
            f"{scenario.places}",
            style="green",
            soft_wrap=True,
        )


def _list(console: Console, lines: Sequence[str]) -> None:
    for line in lines[:MOST_SHOWN]:
        console.print(f"  {line}", markup=False, soft_wrap=True)
    if len(lines) > MOST_SHOWN:
        console.print(f"  and {len(lines) - MOST_SHOWN:,} more")


def _timing(sagas: Sequence[SagaFound]) -> Timing:
    ended: list[tuple[datetime, datetime, datetime]] = [
        (saga.created_at, saga.began_at or saga.created_at, saga.settled_at)
        for saga in sagas
        if saga.settled_at is not None
    ]
    first = min((created for created, _, _ in ended), default=None)
    return Timing(
        settled=sorted((end - first).total_seconds() for _, _, end in ended if first),
        latency=sorted((end - created).total_seconds() for created, _, end in ended),
        working=sorted((end - began).total_seconds() for _, began, end in ended),
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that this share of the sorted values does not exceed (the nearest rank)."""
    return ordered[max(0, -int(-len(ordered) * share // 1) - 1)]


def _percentiles(ordered: Sequence[float]) -> str:
    return " / ".join(f"{percentile(ordered, share):.2f}" for share in (0.50, 0.95, 0.99))

"""The table at the demo's end, and what is wrong, if anything is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from steps.demo.facts import Facts, SagaFound
from steps.demo.verdict import Found, Mismatch
from steps.expected import expected_end
from steps.model import Payment

COUNTED = (
    {
        "COMPLETED": "completed",
        "FAILED": "failed and undone",
        "SUSPENDED": "suspended, for a person",
    },
    {
        "create": "at the provider: intents created",
        "authorize": "at the provider: authorized",
        "decline": "at the provider: declined",
        "cancel": "at the provider: canceled",
    },
    {"debits": "in the ledger: debits", "credits": "in the ledger: credits"},
    {"mails": "mails delivered"},
)
MOST_SHOWN = 20
BUSY_SHARE = 0.95


@dataclass(frozen=True, slots=True)
class Timing:
    """How long it took, in seconds; sorted lists, an element a settled payment."""

    settled: list[float]
    latency: list[float]
    working: list[float]


def show(
    console: Console, payments: Mapping[str, Payment], facts: Facts, mismatches: Sequence[Mismatch]
) -> None:
    """Print the end of the demo.

    Args:
        console: where.
        payments: what was asked for, by key.
        facts: what came of it.
        mismatches: where the two differ.
    """
    console.print()
    console.print(_table(payments, facts, mismatches))
    console.print(
        "All payments start at once, so latency is mostly the queue. The slowest met\n"
        "timeouts in every attempt, and are undone when no effect can land any more.",
        style="dim",
        soft_wrap=True,
    )
    _say_verdict(console, len(payments), facts, mismatches)


def _table(payments: Mapping[str, Payment], facts: Facts, mismatches: Sequence[Mismatch]) -> Table:
    table = Table(box=box.ROUNDED)
    table.add_column(f"{len(payments):,} payments", min_width=38)
    table.add_column("expected", justify="right")
    table.add_column("found", justify="right", min_width=20)

    def compare(label: str, expected: int, found: int) -> None:
        style = "green" if expected == found else "bold red"
        table.add_row(label, f"{expected:,}", Text(f"{found:,}", style=style))

    expected, found = _tally_expected(payments.values()), _tally_found(facts.found.values())
    for section in COUNTED:
        for name, label in section.items():
            compare(label, expected[name], found[name])
        table.add_section()
    for label, value in _pace(facts.sagas):
        table.add_row(label, "", value)
    table.add_section()
    compare("audit: invariants violated", 0, len(facts.violations))
    compare("differences from what the inputs say", 0, len(mismatches))
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


def _say_verdict(
    console: Console, total: int, facts: Facts, mismatches: Sequence[Mismatch]
) -> None:
    if facts.violations:
        console.print(f"audit: invariants violated: {len(facts.violations):,}", style="bold red")
        _list(console, facts.violations)
    else:
        console.print("audit: clean, no invariant is violated", style="green")
    if mismatches:
        console.print(
            f"payments: differences from what the inputs say: {len(mismatches):,}", style="bold red"
        )
        _list(console, [str(mismatch) for mismatch in mismatches])
    else:
        console.print(
            f"payments: all {total:,} ended as their inputs say, in the engine, at the\n"
            "provider, in the ledger and in the mailbox",
            style="green",
            soft_wrap=True,
        )


def _list(console: Console, lines: Sequence[str]) -> None:
    for line in lines[:MOST_SHOWN]:
        console.print(f"  {line}", markup=False, soft_wrap=True)
    if len(lines) > MOST_SHOWN:
        console.print(f"  and {len(lines) - MOST_SHOWN:,} more")


def _tally_expected(payments: Iterable[Payment]) -> Counter[str]:
    tally: Counter[str] = Counter()
    for payment in payments:
        end = expected_end(payment)
        tally.update([end.status])
        tally.update(end.effects)
        tally.update(debits=end.debits, credits=end.credits, mails=end.mails)
    return tally


def _tally_found(found: Iterable[Found]) -> Counter[str]:
    tally: Counter[str] = Counter()
    for one in found:
        tally.update([one.status or "no saga"])
        tally.update(one.effects)
        tally.update(debits=one.count("debit"), credits=one.count("credit"), mails=len(one.mails))
    return tally


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

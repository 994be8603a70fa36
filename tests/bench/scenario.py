"""What a scenario is, what it is given, and which there are."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from tests.bench.checks import Checks
from tests.bench.measure import Measures
from tests.bench.server import Server

console = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class Options:
    """How much is to be measured.

    Attributes:
        quick: sizes for ten minutes in all, on two cores.
        repeats: how often each measure is taken.
        rate: arrivals a second for the latency.
        plots: where the plots go; None: none are made.
    """

    quick: bool
    repeats: int
    rate: float
    plots: Path | None

    def size(self, full: int, quick: int) -> int:
        """The one or the other."""
        return quick if self.quick else full


@dataclass
class Bench:
    """What a scenario works with: a server, options, and where its results go."""

    server: Server
    options: Options
    measures: Measures = field(default_factory=Measures)
    checks: Checks = field(default_factory=Checks)
    notes: list[str] = field(default_factory=list)

    def add(self, scenario: str, name: str, value: float, unit: str) -> None:
        """Records one repeat of a measure, and shows it."""
        self.measures.add(scenario, name, value, unit)
        console.print(f"  {scenario:<10} {name}: {value:,.4g} {unit}")

    def say(self, text: str) -> None:
        """Shows progress."""
        console.print(f"[dim]  … {text}[/dim]")


@dataclass(frozen=True)
class Scenario:
    """A scenario: ``order`` says when its turn is in a run of all."""

    name: str
    summary: str
    order: int
    run: Callable[[Bench], None]


def find_scenarios() -> dict[str, Scenario]:
    """Every ``SCENARIO`` of the modules in ``tests.bench.scenarios``, in order."""
    package = importlib.import_module("tests.bench.scenarios")
    found = [
        importlib.import_module(f"tests.bench.scenarios.{module.name}").SCENARIO
        for module in pkgutil.iter_modules(package.__path__)
    ]
    return {scenario.name: scenario for scenario in sorted(found, key=lambda s: s.order)}

"""`bin/bench`: measures what is asked for, and says which bars hold."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from outbox.cli.shell import end_in_order_at_sigterm, friendly
from outbox.store.connect import describe_dsn
from tests.bench import report
from tests.bench.docs import write_docs
from tests.bench.machine import describe_machine, describe_settings, describe_versions
from tests.bench.scenario import Bench, Options, Scenario, console, find_scenarios
from tests.bench.server import Server
from tests.bench.workers import ROOT

PLOTS = ROOT / "docs" / "benchmarks"
DOCS = ROOT / "docs" / "benchmarks.md"

cli = typer.Typer(add_completion=False, rich_markup_mode=None)
_scenarios = find_scenarios()
_help = "\n".join(
    [
        "\b",
        "Scenarios:",
        *(f"  {scenario.name:<12}{scenario.summary}" for scenario in _scenarios.values()),
        "  all         all of these",
    ]
)


@cli.command(epilog=_help)
def bench(
    scenarios: Annotated[list[str], typer.Argument(help="What to measure.", metavar="SCENARIO…")],
    quick: Annotated[bool, typer.Option(help="Sizes for ten minutes in all.")] = False,
    repeats: Annotated[
        int | None, typer.Option(min=1, help="How often; default 5, with --quick 2.")
    ] = None,
    rate: Annotated[float, typer.Option(min=0.1, help="Arrivals a second, for latency.")] = 20.0,
    dsn: Annotated[
        str | None, typer.Option(help="A Postgres to measure; default one of the benchmark's own.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Where to write every figure.")] = None,
    plots: Annotated[
        Path | None, typer.Option(help="Directory for the plots; default none are kept.")
    ] = None,
    docs: Annotated[
        bool, typer.Option(help="Write docs/benchmarks.md, its plots and its figures.")
    ] = False,
) -> None:
    """Measures the engine beside the yardsticks of the same machine and the same run.

    Exit codes: 0 measured, whether or not the bars hold; 1 something went wrong; 2 a wrong
    argument.
    """
    chosen = _choose(scenarios)
    command = shlex.join(["bin/bench", *sys.argv[1:]])
    where = plots or (PLOTS if docs else None)
    options = Options(quick, repeats or (2 if quick else 5), rate, where)
    end_in_order_at_sigterm()
    began = time.monotonic()
    with friendly(), Server(dsn) as server:
        with server.connect() as connection:
            facts = {
                "machine": describe_machine(),
                "versions": describe_versions(connection),
                "settings": describe_settings(connection),
            }
        report.show_facts(facts)
        console.print(f"[bold]server[/bold]  {describe_dsn(server.dsn)}")
        bench = Bench(server, options)
        for scenario in chosen:
            console.print(f"[bold]{scenario.name}[/bold]  {scenario.summary}")
            scenario_began = time.monotonic()
            scenario.run(bench)
            bench.say(f"{scenario.name} took {time.monotonic() - scenario_began:.0f} s")
            if docs:
                write_docs(bench, facts, command, DOCS)
    bench.notes.append(f"{command}: {time.monotonic() - began:.0f} s")
    report.show(bench)
    if json is not None:
        report.write_json(bench, facts, command, json)


def _choose(names: list[str]) -> list[Scenario]:
    if "all" in names:
        return list(_scenarios.values())
    unknown = [name for name in names if name not in _scenarios]
    if unknown:
        raise typer.BadParameter(
            f"unknown: {', '.join(unknown)}; there are {', '.join(_scenarios)}, all"
        )
    return [scenario for name, scenario in _scenarios.items() if name in names]


if __name__ == "__main__":
    cli(prog_name="bench")

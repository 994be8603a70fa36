"""The demo's command line and exit codes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import psycopg
from rich.console import Console

import outbox
from steps.demo import run
from steps.demo.directory import DemoDirectory, demo_directory
from steps.demo.errors import DemoError
from steps.demo.interrupts import Interrupted, Interrupts
from steps.demo.programs import forget_settings
from steps.demo.scenario import Scenario
from steps.demo.scenarios.onboarding import Applications
from steps.demo.scenarios.order import Orders
from steps.demo.scenarios.payment import Payments
from steps.demo.scenarios.travel import Journeys
from steps.make_payments import TARGET

DIRECTORY = Path(".outbox/demo")
SCENARIOS: Mapping[str, Callable[[argparse.Namespace], Scenario]] = {
    "onboarding": lambda options: Applications(options.count),
    "order": lambda options: Orders(options.count),
    "payment": lambda options: Payments(options.payments, options.count),
    "travel": lambda options: Journeys(options.count),
}


def demo(interrupts: Interrupts) -> int:
    """Run the demo as the command line asks for it.

    Args:
        interrupts: whether to stop early.

    Returns:
        The exit code.
    """
    options = _parse()
    forget_settings()
    console = Console(highlight=False)
    try:
        interrupts.check()
        with demo_directory(options.directory, options.keep) as directory:
            is_good = _run(console, directory, options, interrupts)
        if options.stay:
            console.print("stopped; nothing of it is left running")
        return 0 if is_good else 1
    except Interrupted:
        pass
    except (DemoError, outbox.OutboxError, psycopg.Error) as error:
        # A signal at the terminal also reaches what we run there, and ends it.
        if interrupts.signal is None:
            print(f"demo: {error}", file=sys.stderr)
            return 1
    print("demo: stopped; nothing of it is left running", file=sys.stderr)
    return 128 + (interrupts.signal or 0)


def _run(
    console: Console, directory: DemoDirectory, options: argparse.Namespace, interrupts: Interrupts
) -> bool:
    """Run it; where it goes wrong, its logs stay."""
    scenario = SCENARIOS[options.saga](options)
    _introduce(console, directory, scenario)
    is_good = False
    try:
        is_good = run.run(console, directory, scenario, interrupts, stays=options.stay)
    finally:
        if not is_good and interrupts.signal is None:
            directory.keep = True
        if directory.keep:
            where = _short(directory.path)
            console.print(f"Data and logs stay in {where} until the next demo.", soft_wrap=True)
            console.print(f"To look around: OUTBOX_DIRECTORY={where} bin/saga list", soft_wrap=True)
    return is_good


def _introduce(console: Console, directory: DemoDirectory, scenario: Scenario) -> None:
    console.print(f"{len(scenario.inputs):,} {scenario.prologue}", soft_wrap=True)
    fate = "and stay there" if directory.keep else "until then; make demo KEEP=1 keeps them"
    console.print(f"Logs are in {_short(directory.path)} ({fate}).", soft_wrap=True)


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="demo",
        description="Run sagas of one type with two workers, then check every saga and all that "
        "it talks to against what the inputs say.",
    )
    parser.add_argument(
        "--saga", choices=sorted(SCENARIOS), default="payment", help="default: %(default)s"
    )
    parser.add_argument(
        "--payments",
        type=Path,
        default=TARGET,
        metavar="FILE",
        help="JSON Lines of payments (default: shipped)",
    )
    parser.add_argument("--count", type=_positive, metavar="N", help="only the first N")
    parser.add_argument(
        "--directory",
        type=Path,
        default=DIRECTORY,
        metavar="DIR",
        help="for data and logs; emptied first (default: %(default)s)",
    )
    parser.add_argument("--keep", action="store_true", help="keep data and logs")
    parser.add_argument(
        "--stay",
        action="store_true",
        help="serve the dashboard, and go on with sagas of all types until Ctrl-C",
    )
    return parser.parse_args()


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)

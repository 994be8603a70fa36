"""The engine's command line as a user would call it, in surroundings of the demo's own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from steps.demo.errors import DemoError
from steps.demo.interrupts import Interrupts

ROOT = Path(__file__).parents[2]
SCHEMA = "saga"
LEDGER_SCHEMA = "ledger"
SHOP_SCHEMA = "shop"
CONCURRENCY = 32
"""Enough for two cores; more would only make the sandbox slow, up to the provider's timeout."""
POLL_SECONDS = 0.05


def forget_settings() -> None:
    """Drop this process's settings: an installation's database or mail host is not the demo's."""
    for name in list(os.environ):
        if name.startswith(("OUTBOX_", "PAYMENT_", "EXAMPLE_")):
            del os.environ[name]
    # The sandbox is on this machine, and no proxy's business.
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"


def environment(dsn: str, provider_url: str, mail_port: int) -> dict[str, str]:
    """The environment variables of the demo's programs.

    Args:
        dsn: the demo's database.
        provider_url: the sandbox's address.
        mail_port: of the demo's mail server, on 127.0.0.1.

    Returns:
        All of them, those of this process included.
    """
    path = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        # They run in another directory, out of reach of a .env.
        "PYTHONPATH": f"{ROOT}{os.pathsep}{path}" if path else str(ROOT),
        "OUTBOX_DSN": dsn,
        "OUTBOX_SCHEMA": SCHEMA,
        "OUTBOX_CONCURRENCY": str(CONCURRENCY),
        "OUTBOX_LOG_FORMAT": "json",
        # A killed worker's payments are to go on while somebody watches.
        "OUTBOX_LEASE": "5",
        "OUTBOX_SHUTDOWN_GRACE": "5",
        "PAYMENT_PROVIDER_URL": provider_url,
        "PAYMENT_PROVIDER_TIMEOUT": "2",
        "PAYMENT_SMTP_HOST": "127.0.0.1",
        "PAYMENT_SMTP_PORT": str(mail_port),
        "PAYMENT_LEDGER_SCHEMA": LEDGER_SCHEMA,
        "EXAMPLE_PARTNERS_URL": provider_url,
        "EXAMPLE_PARTNERS_TIMEOUT": "2",
        "EXAMPLE_SMTP_HOST": "127.0.0.1",
        "EXAMPLE_SMTP_PORT": str(mail_port),
        "EXAMPLE_DB_SCHEMA": SHOP_SCHEMA,
    }


def run_saga(
    *arguments: str, environment: Mapping[str, str], directory: Path, interrupts: Interrupts
) -> str:
    """Run ``bin/saga`` with arguments, and wait for its end.

    Args:
        arguments: the command and its options.
        environment: its environment variables.
        directory: where it runs, and where its output goes: ``saga.out`` and ``saga.log``.
        interrupts: a signal ends it early.

    Returns:
        What it printed.

    Raises:
        DemoError: it failed; the message has its last lines.
        Interrupted: there was a signal.
    """
    output, log = directory / "saga.out", directory / "saga.log"
    with output.open("wb") as stdout, log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "outbox.cli.saga", *arguments],
            env=environment,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        try:
            while True:
                try:
                    code = process.wait(POLL_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    interrupts.check()
        finally:
            process.kill()
            process.wait()
    if code != 0:
        raise DemoError(
            f"saga {' '.join(arguments)} ended with exit code {code}:\n{last_lines(log)}"
        )
    return output.read_text()


def last_lines(log: Path, count: int = 15) -> str:
    """The end of a log file, for an error message."""
    lines = log.read_text(errors="replace").splitlines()[-count:]
    return "\n".join(f"  {line}" for line in lines) or "  (it wrote nothing)"

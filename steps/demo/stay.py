"""The demo goes on: sagas trickle in, the dashboard stands, until somebody ends it."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence

import psycopg
from rich.console import Console
from rich.table import Table
from rich.text import Text

from steps.demo.dashboard import Dashboard
from steps.demo.interrupts import Interrupts
from steps.demo.life import ON_CALL, Life
from steps.demo.mailbox import Mail
from steps.demo.workers import Crew
from steps.model import Payment

POLL_SECONDS = 0.2
PAYMENT = Payment(
    amount=4200,
    currency="eur",
    merchant="bakery",
    customer="cus_0042",
    payment_method="pm_card_visa",
).model_dump_json(exclude_none=True)
"""What is started from the command line that is printed."""


def introduce(console: Console, dashboard: Dashboard) -> None:
    """Print where the dashboard is, and who may log in."""
    console.print(Text.assemble("dashboard: ", (dashboard.url, "bold cyan")), soft_wrap=True)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for login in dashboard.logins:
        what = "looks and acts" if login.role == "operator" else "looks"
        table.add_row("", login.name, Text(login.password, style="bold"), f"{login.role}, {what}")
    console.print(table)


def guide(console: Console, dashboard: Dashboard, dsn: str) -> None:
    """Print what can be tried while the demo stands."""
    console.print()
    console.print("The demo goes on: a saga every second or so, some of which need a person.")
    introduce(console, dashboard)
    console.print("In another terminal:")
    lines = [
        f"export OUTBOX_DSN={shlex.quote(dsn)}",
        "bin/saga top",
        "bin/saga list --status SUSPENDED",
        "bin/saga health",
        "bin/saga psql    # then :help",
        f"curl -H 'Authorization: Bearer {dashboard.token}' -H 'Idempotency-Key: mine-1' "
        f"--json '{PAYMENT}' {dashboard.base}/api/payments",
        f"curl {dashboard.base}/metrics",
    ]
    for line in lines:
        console.print(Text(f"  {line}"), soft_wrap=True)
    console.print("Ctrl-C ends everything.", soft_wrap=True)


def go_on(
    console: Console,
    dsn: str,
    crew: Crew,
    dashboard: Dashboard,
    mails: Sequence[Mail],
    interrupts: Interrupts,
) -> None:
    """Start sagas, put new workers in the place of those that die, and tell of alerts, until there
    is a signal.

    Raises:
        DemoError: the dashboard or all workers have ended by themselves.
    """
    life, read = Life(), len(mails)
    with psycopg.connect(dsn, autocommit=True) as connection:
        life.prepare(connection)
        while interrupts.signal is None:
            for line in crew.mend():
                console.print(line, style="yellow", soft_wrap=True)
            dashboard.check()
            life.go_on(connection)
            fresh = mails[read:]
            read += len(fresh)
            for mail in fresh:
                if mail.recipient == ON_CALL:
                    console.print(f"mail to {ON_CALL}: {mail.subject}", markup=False)
            time.sleep(POLL_SECONDS)

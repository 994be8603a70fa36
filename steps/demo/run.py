"""The demo from beginning to end."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from pydantic import ValidationError
from rich.console import Console

import outbox
from steps import ledger
from steps.demo import facts, leftovers, report
from steps.demo.directory import DemoDirectory
from steps.demo.errors import DemoError
from steps.demo.interrupts import Interrupts
from steps.demo.mailbox import Mailbox
from steps.demo.programs import LEDGER_SCHEMA, SCHEMA, environment, last_lines, run_saga
from steps.demo.progress import Display, read_counts
from steps.demo.verdict import compare
from steps.demo.workers import Crew
from steps.expected import CLOSED_MERCHANT
from steps.model import Payment
from steps.sandbox.process import SandboxProcess

POLL_SECONDS = 0.2
STALLED_SECONDS = 120.0
# What is left in doubt by a killed worker is undone when its deadline is over; by default that is
# half a minute further off, in case the worker held it for long before it began.
HOLD = sql.SQL("update {} set hold = '5 seconds'").format(sql.Identifier(SCHEMA, "setting"))


@dataclass(frozen=True, slots=True)
class Order:
    """The payments to make: the file of them, and what it says, by key."""

    file: Path
    payments: Mapping[str, Payment]


def read_order(source: Path, count: int | None, target: Path) -> Order:
    """Read a file of payments.

    Args:
        source: JSON Lines of ``{"key": ..., "input": ...}``.
        count: only the first so many; ``None`` means all.
        target: the file to write these to.

    Returns:
        The payments.

    Raises:
        DemoError: the file cannot be read, or a line is not a payment with a key of its own.
    """
    try:
        lines = source.read_text(encoding="utf-8").splitlines()[:count]
    except (OSError, UnicodeDecodeError) as error:
        raise DemoError(f"cannot read {source}: {error}") from error
    payments: dict[str, Payment] = {}
    for number, line in enumerate(lines, start=1):
        try:
            document = json.loads(line)
            key = str(document["key"])
            payment = Payment.model_validate(document["input"])
        except (ValidationError, ValueError, LookupError, TypeError) as error:
            raise DemoError(
                f'{source}, line {number}: not {{"key": ..., "input": a payment}}: {error!r}'
            ) from error
        if key in payments:
            raise DemoError(f"{source}, line {number}: the key {key} is there already")
        payments[key] = payment
    if not payments:
        raise DemoError(f"{source} holds no payment")
    target.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return Order(target, payments)


def run(console: Console, directory: DemoDirectory, order: Order, interrupts: Interrupts) -> bool:
    """Run the demo in its directory; nothing of it runs afterwards.

    Args:
        console: for people to look at.
        directory: the demo's own, empty.
        order: the payments.
        interrupts: whether to stop early.

    Returns:
        Whether everything is as it must be.

    Raises:
        DemoError: it could not be finished.
        Interrupted: there was a signal.
    """
    total = len(order.payments)
    with (
        outbox.database(directory.settings) as dsn,
        _sandbox(directory.path) as sandbox,
        Mailbox() as mailbox,
    ):
        interrupts.check()
        variables = environment(dsn, sandbox.url, mailbox.port)

        def saga(*arguments: str) -> str:
            return run_saga(
                *arguments,
                environment=variables,
                directory=directory.path,
                interrupts=interrupts,
            )

        saga("migrate")
        saga("register", "steps.payment:app")
        asyncio.run(_prepare(dsn))
        with Crew(variables, directory.path) as crew:
            console.print(
                f"running: {' and '.join(map(str, crew.start()))}; "
                "kill one with kill -9, if you like",
                soft_wrap=True,
            )
            printed = saga("start", "payment", "--file", str(order.file), "--json")
            started = json.loads(printed)["started"]
            if started != total:
                raise DemoError(f"{started} payments were started instead of {total}: {printed}")
            with (
                Display(console, total) as display,
                psycopg.connect(dsn, autocommit=True) as connection,
            ):
                _watch(connection, crew, display, total, interrupts)
            for line in crew.stop():
                console.print(line, style="yellow", soft_wrap=True)
        found = asyncio.run(facts.read(dsn, sandbox, mailbox.received))
    interrupts.check()
    mismatches = compare(order.payments, found.found)
    report.show(console, order.payments, found, mismatches)
    return not mismatches and not found.violations


def _sandbox(directory: Path) -> SandboxProcess:
    log = directory / "sandbox.log"
    try:
        sandbox = SandboxProcess(directory / "sandbox.db", log=log)
    except RuntimeError as error:
        raise DemoError(f"{error}:\n{last_lines(log)}") from error
    leftovers.remember(directory, sandbox.pid)
    return sandbox


async def _prepare(dsn: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute(HOLD)
        await ledger.install(connection, LEDGER_SCHEMA)
        await ledger.close_merchant(
            connection, LEDGER_SCHEMA, CLOSED_MERCHANT, "the demo wants to see a refusal"
        )


def _watch(
    connection: psycopg.Connection[tuple[object, ...]],
    crew: Crew,
    display: Display,
    total: int,
    interrupts: Interrupts,
) -> None:
    settled, moved_at = 0, time.monotonic()
    while settled < total:
        interrupts.check()
        for line in crew.mend():
            display.say(line)
        counts = read_counts(connection)
        display.show(counts)
        if counts.settled != settled:
            settled, moved_at = counts.settled, time.monotonic()
        elif time.monotonic() - moved_at > STALLED_SECONDS:
            raise DemoError(
                f"{total - settled} payments did not end, and none did for "
                f"{STALLED_SECONDS:.0f} s; the workers' logs and the view {SCHEMA}.pending say more"
            )
        time.sleep(POLL_SECONDS)

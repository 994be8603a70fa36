"""The demo from beginning to end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path

import psycopg
from psycopg import sql
from rich.console import Console

import outbox
from steps.demo import facts, leftovers, report, stay
from steps.demo.dashboard import Dashboard
from steps.demo.directory import DemoDirectory
from steps.demo.errors import DemoError
from steps.demo.interrupts import Interrupts
from steps.demo.life import APPS
from steps.demo.mailbox import Mail, Mailbox
from steps.demo.programs import SCHEMA, environment, last_lines, run_saga
from steps.demo.progress import Display, read_counts
from steps.demo.scenario import End, Scenario, World
from steps.demo.scenarios.order import receive_webhooks
from steps.demo.scenarios.payment import open_books
from steps.demo.workers import Crew
from steps.sandbox.process import SandboxProcess

POLL_SECONDS = 0.2
STALLED_SECONDS = 120.0
# What is left in doubt by a killed worker is undone when its deadline is over; by default that is
# half a minute further off, in case the worker held it for long before it began.
HOLD = sql.SQL("update {} set hold = '5 seconds'").format(sql.Identifier(SCHEMA, "setting"))


def run(
    console: Console,
    directory: DemoDirectory,
    scenario: Scenario,
    interrupts: Interrupts,
    *,
    stays: bool = False,
) -> bool:
    """Run the demo in its directory; nothing of it runs afterwards.

    Args:
        console: for people to look at.
        directory: the demo's own, empty.
        scenario: the sagas.
        interrupts: whether to stop early.
        stays: serve the dashboard meanwhile, and go on with more sagas until there is a signal.

    Returns:
        Whether everything is as it must be.

    Raises:
        DemoError: it could not be finished.
        Interrupted: there was a signal.
    """
    total = len(scenario.inputs)
    with contextlib.ExitStack() as stack:
        dsn = stack.enter_context(outbox.database(directory.settings))
        sandbox = stack.enter_context(_sandbox(directory.path))
        mailbox = stack.enter_context(Mailbox())
        interrupts.check()
        variables = environment(dsn, sandbox.url, mailbox.port)
        if stays:
            variables["OUTBOX_SMTP_URL"] = f"smtp://127.0.0.1:{mailbox.port}"  # for alerts

        def saga(*arguments: str) -> str:
            return run_saga(
                *arguments,
                environment=variables,
                directory=directory.path,
                interrupts=interrupts,
            )

        apps = list(dict.fromkeys([*scenario.apps, *(APPS if stays else ())]))
        saga("migrate")
        saga("register", *apps)
        asyncio.run(_prepare(dsn, scenario, stays))
        if stays:
            dashboard = stack.enter_context(Dashboard(variables, directory.path, interrupts))
            stay.introduce(console, dashboard)
            # Of whatever saga is shown first, orders come later.
            variables |= stack.enter_context(receive_webhooks(variables, directory.path))
        else:
            variables |= stack.enter_context(scenario.companions(variables, directory.path))
        with Crew(variables, directory.path, apps) as crew:
            console.print(
                f"running: {' and '.join(map(str, crew.start()))}; "
                "kill one with kill -9, if you like",
                soft_wrap=True,
            )
            file = directory.path / f"{scenario.noun}.jsonl"
            file.write_text(scenario.lines(), encoding="utf-8")
            printed = saga("start", scenario.saga, "--file", str(file), "--json")
            started = json.loads(printed)["started"]
            if started != total:
                raise DemoError(
                    f"{started} {scenario.noun} were started instead of {total}: {printed}"
                )
            with (
                Display(console, total) as display,
                psycopg.connect(dsn, autocommit=True) as connection,
            ):
                _watch(connection, crew, display, scenario, interrupts)
            if stays:
                end = asyncio.run(_read(dsn, scenario, sandbox, mailbox.received))
                interrupts.check()
                report.show(console, scenario, end)
                stay.guide(console, dashboard, dsn)
                stay.go_on(console, dsn, crew, dashboard, mailbox.received, interrupts)
            for line in crew.stop():
                console.print(line, style="yellow", soft_wrap=True)
        if not stays:
            end = asyncio.run(_read(dsn, scenario, sandbox, mailbox.received))
    if not stays:
        interrupts.check()
        report.show(console, scenario, end)
    return not end.mismatches and not end.violations


def _sandbox(directory: Path) -> SandboxProcess:
    log = directory / "sandbox.log"
    try:
        sandbox = SandboxProcess(directory / "sandbox.db", log=log)
    except RuntimeError as error:
        raise DemoError(f"{error}:\n{last_lines(log)}") from error
    leftovers.remember(directory, sandbox.pid)
    return sandbox


async def _prepare(dsn: str, scenario: Scenario, stays: bool) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute(HOLD)
        await scenario.prepare(connection)
        if stays:
            await open_books(connection)


async def _read(
    dsn: str, scenario: Scenario, sandbox: SandboxProcess, mails: Sequence[Mail]
) -> End:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        sagas = await facts.read_sagas(connection, scenario.saga)
        violations = await facts.read_violations(connection)
        judged = await scenario.judge(connection, World(sagas, sandbox, mails))
    return End(sagas, violations, judged.sections, judged.mismatches)


def _watch(
    connection: psycopg.Connection[tuple[object, ...]],
    crew: Crew,
    display: Display,
    scenario: Scenario,
    interrupts: Interrupts,
) -> None:
    total = len(scenario.inputs)
    settled, moved_at = 0, time.monotonic()
    while settled < total:
        interrupts.check()
        for line in crew.mend():
            display.say(line)
        scenario.meanwhile(connection)
        counts = read_counts(connection, scenario.saga)
        display.show(counts)
        if counts.settled != settled:
            settled, moved_at = counts.settled, time.monotonic()
        elif time.monotonic() - moved_at > STALLED_SECONDS:
            raise DemoError(
                f"{total - settled} {scenario.noun} did not end, and none did for "
                f"{STALLED_SECONDS:.0f} s; the workers' logs and the view {SCHEMA}.pending say more"
            )
        time.sleep(POLL_SECONDS)

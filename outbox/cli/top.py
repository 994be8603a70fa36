"""``bin/saga top``: a live screen of what goes on."""

from __future__ import annotations

import asyncio
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from outbox.cli import shell
from outbox.cli.render import cell, interval, table
from outbox.cli.shell import AsJson, out, print_json, settings_of
from outbox.store.connect import Connection
from outbox.viewer.pulse import Pulse, pulse
from outbox.viewer.sagas import LIVE

_HEALTH_EVERY = 10.0
_SEVERITY = {"error": "bold red", "warning": "yellow", "info": "dim"}


def top_command(
    every: Annotated[
        float, typer.Option(min=0.2, help="Seconds between two looks at the database.")
    ] = 2.0,
    window: Annotated[
        float, typer.Option(min=1, help="Seconds that the throughput is taken of.")
    ] = 10.0,
    once: Annotated[bool, typer.Option("--once", help="Print one frame and leave.")] = False,
    as_json: AsJson = False,
) -> None:
    """Shows live what goes on: throughput, queues, workers, what is stuck or waits for a person.
    Leaves by q."""
    settings = settings_of()
    schema, taken_of = settings.schema_name, timedelta(seconds=window)

    async def work(connection: Connection) -> int:
        seen = await pulse(connection, schema, taken_of)
        if as_json:
            print_json(seen)
            return shell.OK
        if once or not (sys.stdin.isatty() and out.is_terminal):
            out.print(frame(seen))
            return shell.OK
        return await _live(connection, schema, seen, every)

    shell.with_connection(settings, work)


async def _live(connection: Connection, schema: str, seen: Pulse, every: float) -> int:
    loop = asyncio.get_running_loop()
    left = asyncio.Event()

    def on_key() -> None:
        if sys.stdin.read(1) in ("q", "Q", "\x1b", ""):
            left.set()

    health_due = loop.time() + _HEALTH_EVERY
    with _keys_at_once(), Live(_Fitted(seen), console=out, screen=True, auto_refresh=False) as live:
        loop.add_reader(sys.stdin, on_key)
        try:
            while not left.is_set():
                try:
                    await asyncio.wait_for(left.wait(), every)
                except TimeoutError:
                    with_health = loop.time() >= health_due
                    fresh = await pulse(connection, schema, seen.window, with_health=with_health)
                    if with_health:
                        health_due = loop.time() + _HEALTH_EVERY
                    else:
                        fresh = replace(fresh, findings=seen.findings)
                    seen = fresh
                    live.update(_Fitted(seen), refresh=True)
        finally:
            loop.remove_reader(sys.stdin)
    return shell.OK


@contextmanager
def _keys_at_once() -> Iterator[None]:
    """A key is read when it is pressed, not at the end of its line; nothing is echoed."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


class _Fitted:
    """A frame that fits the screen it is shown on."""

    def __init__(self, seen: Pulse) -> None:
        self.seen = seen

    def __rich_console__(self, console: Console, options: object) -> Iterator[RenderableType]:
        yield frame(self.seen, rows=max(3, console.height // 5))


def frame(seen: Pulse, rows: int = 8) -> RenderableType:
    """One look, as text: ``rows`` is how long each list may be at most."""
    parts: list[RenderableType] = [_head(seen), Text(""), _types(seen), Text("")]
    parts += [_workers(seen, rows), Text("")]
    if seen.stuck:
        columns = ("saga_id", "type", "key", "step", "stuck_for", "why")
        found = [[getattr(row, c) for c in columns] for row in seen.stuck[:rows]]
        parts.append(table(columns, found, title="stuck"))
    if seen.suspended:
        columns = ("saga_id", "type", "key", "name", "waiting", "reason")
        found = [[getattr(row, c) for c in columns] for row in seen.suspended[:rows]]
        parts.append(table(columns, found, title="suspended"))
    parts += [_finding(f.severity, f.finding, f.subject, f.detail) for f in seen.findings or ()]
    return Group(*parts)


def _head(seen: Pulse) -> Text:
    text = cell(seen.at)
    text.append(f"   {seen.total()} sagas live: ", style="bold")
    text.append("  ".join(f"{seen.total(status)} {status}" for status in LIVE))
    return text


def _types(seen: Pulse) -> RenderableType:
    """A line for each type: what it does a second, and what waits to be done."""
    seconds = seen.window.total_seconds()
    flows = {flow.type: flow for flow in seen.throughput}
    queues = {queue.type: queue for queue in seen.queues}
    rows = []
    for type_ in sorted({*flows, *queues, *(count.type for count in seen.live)}):
        flow, queue = flows.get(type_), queues.get(type_)
        rates = (
            [f"{count / seconds:.1f}" for count in (flow.started, flow.completed, flow.failed,
                                                   flow.transitions, flow.retries)]
            if flow else ["0.0"] * 5
        )  # fmt: skip
        waiting = (
            [queue.due, queue.claimed, queue.delayed, queue.waiting, queue.suspended,
             None if queue.lag is None else interval(queue.lag)]
            if queue else [0, 0, 0, 0, 0, None]
        )  # fmt: skip
        rows.append([type_, *rates, *waiting])
    columns = (
        "type", "started/s", "completed/s", "failed/s", "steps/s", "retries/s", "due", "claimed",
        "delayed", "waiting", "suspended", "lag",
    )  # fmt: skip
    return table(columns, rows) if rows else Text("no saga lives, and none has begun lately")


def _workers(seen: Pulse, rows: int) -> RenderableType:
    if not seen.workers:
        return Text("no worker: start one by bin/worker", style="yellow")
    columns = ("host", "pid", "standing", "in_hand", "heartbeat_age", "runs")
    shown = [
        [w.host, w.pid, w.standing, w.in_hand, w.heartbeat_age, ", ".join(w.runs)]
        for w in seen.workers[:rows]
    ]
    more = len(seen.workers) - len(shown)
    title = f"{len(seen.workers)} workers" + (f", {more} of them not shown" if more else "")
    return table(columns, shown, title=title)


def _finding(severity: str, finding: str, subject: str | None, detail: str) -> Text:
    text = Text(f"{severity}: ", style=_SEVERITY.get(severity, ""))
    return text.append(f"{finding}{f' ({subject})' if subject else ''}: {detail}", style="none")

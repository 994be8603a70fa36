"""``bin/saga show`` and ``trace``: what happened to one saga, as a tree; and as it happens."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

import typer
from rich.text import Text

from outbox.cli import shell
from outbox.cli.render import STYLES, cell, interval, story_tree
from outbox.cli.shell import AsJson, SagaId, out, print_json, settings_of
from outbox.store.connect import Connection
from outbox.viewer import saga as look
from outbox.viewer.acts import Line
from outbox.viewer.saga import Moment, Overview, Whole

_EVERY = 0.25
_FIELDS = (
    "saga_id", "type", "version", "key", "status", "state", "reason", "created_at", "ended_at",
    "age", "deadline", "input", "output", "error",
)  # fmt: skip


def show_command(
    saga_id: SagaId,
    errors: Annotated[
        bool, typer.Option("--errors", help="Each failed attempt with its whole error.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Shows a saga and its whole history, as a tree."""
    settings = settings_of()

    async def work(connection: Connection) -> int:
        found = await shell.find_saga_id(connection, settings, saga_id)
        seen = await look.whole(connection, settings.schema_name, found)
        if as_json:
            print_json(
                {
                    **_plain(seen.overview),
                    "timeline": seen.timeline,
                    "lines": seen.lines,
                    "signals": seen.signals,
                    "events": seen.events,
                    "acts": seen.operator_acts,
                    "relatives": seen.relatives,
                    "applies": [act.name for act in seen.acts_that_apply if act.applies],
                }
            )
            return shell.OK
        _print_overview(seen)
        out.print()
        out.print(story_tree(seen.overview, seen.timeline, unfolded=errors), soft_wrap=True)
        return shell.OK

    shell.with_connection(settings, work)


def trace_command(
    saga_id: SagaId,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds; without it, until the saga has ended.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Follows a saga until it has ended; the exit code says how."""
    settings = settings_of()
    schema = settings.schema_name

    async def work(connection: Connection) -> int:
        found = await shell.find_saga_id(connection, settings, saga_id)
        end = None if timeout is None else time.monotonic() + timeout
        last, told = -1, ""
        while True:
            seen = await look.overview(connection, schema, found)
            for moment in await look.timeline(connection, schema, found, last):
                last = max(last, moment.seq)
                _tell(moment, as_json)
            if seen.ended_at is not None:
                return shell.OK if seen.status == "COMPLETED" else shell.NO
            now = _standing(await look.lines(connection, schema, found))
            if not as_json and now != told and out.is_terminal:
                out.print(Text(f"… {now}", style="dim"))
            told = now
            if end is not None and time.monotonic() >= end:
                return shell.SUSPENDED if seen.status == "SUSPENDED" else shell.RUNNING
            await asyncio.sleep(_EVERY)

    shell.with_connection(settings, work)


def _plain(seen: Overview) -> dict[str, object]:
    return {name: getattr(seen, name) for name in Overview.__dataclass_fields__}


def _print_overview(seen: Whole) -> None:
    rows: list[tuple[str, object]] = [
        (name.replace("_", " "), getattr(seen.overview, name)) for name in _FIELDS
    ]
    rows += [("now", _standing(seen.lines))] if seen.lines else []
    rows += [
        ("paused", f"{pause.type or ''} by {pause.actor} since {cell(pause.since)}: {pause.note}")
        for pause in seen.pauses
    ]
    rows += [
        (r.relation, f"{r.other} {r.saga.type} {r.saga.key} {r.saga.status}" if r.saga else r.other)
        for r in seen.relatives
    ]
    rows += [("signal", f"{s.name} by {s.actor} at {cell(s.at)}") for s in seen.signals]
    rows += [("event", f"{e.name} ({e.delivered} delivered, {e.waiting} waiting, {e.dead} dead)")
             for e in seen.events]  # fmt: skip
    if seen.lines:
        rows.append(("applies", ", ".join(a.name for a in seen.acts_that_apply if a.applies)))
    for name, value in rows:
        if value is not None:
            label = Text(name.ljust(11) + " ", style="dim")
            out.print(label.append_text(cell(value)), soft_wrap=True)


def _standing(lines: list[Line]) -> str:
    """What each line is at, in words."""
    return "; ".join(
        f"{'undo of ' if line.kind == 'compensation' else ''}{line.name} {_words(line)}"
        for line in lines
        if line.standing != "joins"
    )


def _words(line: Line) -> str:
    match line.standing:
        case "running":
            return f"runs on {line.host} pid {line.pid}, attempt {line.attempts + 1}"
        case "waiting":
            return f"waits for {line.what}"
        case "delayed" if line.due_at is not None:
            return f"is tried again at {cell(line.due_at)}"
        case "suspended":
            return f"is suspended: {line.reason}"
        case standing:
            return f"is {standing}"


def _tell(moment: Moment, as_json: bool) -> None:
    if as_json:
        print_json(moment)
        return
    said = cell(moment.at)
    said.append(f"  {moment.what}", style=STYLES.get(moment.outcome, ""))
    if moment.took is not None:
        said.append(f"  {interval(moment.took)}", style="dim")
    if moment.error is not None:
        said.append(f"  {moment.error}", style="red")
    out.print(said, soft_wrap=True)

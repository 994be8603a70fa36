"""``bin/saga workers``, ``running``, ``limits``, ``schedules``, ``changes``, ``health``, ``errors``
and ``rates``: what runs sagas, what is wrong, and how well they go."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Annotated, Any

import orjson
import typer

from outbox.cli import shell
from outbox.cli.complete import complete_type
from outbox.cli.render import interval, table
from outbox.cli.shell import AsJson, out, print_json, settings_of
from outbox.cli.times import parse_duration
from outbox.store.connect import Connection
from outbox.viewer import fleet, rates
from outbox.viewer.changes import Rule, RuleChange, rule_changes
from outbox.viewer.read import Reader

Type = Annotated[
    str | None, typer.Option("--type", help="Of this type.", autocompletion=complete_type)
]
Window = typer.Option(
    "--window", help="How far back: 10m, 24h, 7d.", parser=parse_duration, metavar="TIME"
)
Reading = Callable[[Reader, str], Awaitable[Sequence[Any]]]


def workers_command(as_json: AsJson = False) -> None:
    """Lists the workers: alive, draining or dead, and what they hold."""
    columns = ("worker", "host", "pid", "standing", "in_hand", "heartbeat_age", "age", "runs")
    _show(fleet.workers, columns, as_json, "no worker is registered: start one by bin/worker")


def running_command(as_json: AsJson = False) -> None:
    """Lists what workers run now, and since when."""
    columns = ("saga_id", "type", "key", "step", "kind", "attempt", "running_for", "until", "host",
               "pid")  # fmt: skip
    _show(fleet.running, columns, as_json, "nothing runs")


def limits_command(type_: Type = None, as_json: AsJson = False) -> None:
    """Lists the limits, what is taken of each, and how many sagas queue."""
    columns = ("type", "name", "amount", "per", "key", "taken", "queued", "set_by")
    _show(lambda c, s: fleet.limits(c, s, type_), columns, as_json, "no limits")


def schedules_command(as_json: AsJson = False) -> None:
    """Lists the recurring sagas."""
    columns = ("name", "type", "cron", "zone", "catch_up", "paused", "last_tick", "next_tick")
    _show(fleet.schedules, columns, as_json, "no schedules")


def changes_command(
    type_: Type = None,
    rule: Annotated[
        Rule | None, typer.Option("--rule", help="Only of limits, of schedules and so on.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Lists who changed limits, schedules, retentions and subscriptions, and why."""
    settings = settings_of()

    async def work(connection: Connection) -> int:
        rows = await rule_changes(
            connection, settings.schema_name, rule=rule, type=type_, limit=limit
        )
        if as_json:
            print_json(rows)
        elif rows:
            columns = ("at", "rule", "type", "name", "act", "change", "actor", "note")
            shown = [
                [row.at, row.rule, row.type, row.name, row.act, _difference(row), row.actor,
                 row.note]
                for row in rows
            ]  # fmt: skip
            out.print(table(columns, shown))
        else:
            print("nothing was changed")
        return shell.OK

    shell.with_connection(settings, work)


def health_command(as_json: AsJson = False) -> None:
    """Says what is wrong and what to do; exit 1 if any of it is an error."""
    settings = settings_of()

    async def work(connection: Connection) -> int:
        found = await fleet.health(connection, settings.schema_name)
        if as_json:
            print_json(found)
        elif not found:
            print("all is well")
        for finding in () if as_json else found:
            about = f" ({finding.subject})" if finding.subject else ""
            print(f"{finding.severity}: {finding.finding}{about}: {finding.detail}")
            print(f"    {shell.as_installed(finding.remedy)}")
        return shell.NO if any(f.severity == "error" for f in found) else shell.OK

    shell.with_connection(settings, work)


def errors_command(
    type_: Type = None,
    window: Annotated[timedelta, Window] = timedelta(days=1),
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Lists the errors that steps met, those alike together."""
    columns = ("count", "sagas", "type", "step", "kind", "error", "first_seen", "last_seen",
               "message")  # fmt: skip
    _show(
        lambda c, s: rates.errors(c, s, window, type_, limit), columns, as_json,
        f"no errors within {interval(window)}",
    )  # fmt: skip


def rates_command(
    type_: Type = None,
    window: Annotated[timedelta, Window] = timedelta(days=1),
    bucket: Annotated[
        timedelta,
        typer.Option(help="Sagas started within this.", parser=parse_duration, metavar="TIME"),
    ] = timedelta(hours=1),
    steps: Annotated[
        bool, typer.Option("--steps", help="How long each step took, instead.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Shows what became of sagas by their start; or how long steps took."""
    if steps:
        columns: tuple[str, ...] = (
            "type", "step", "kind", "attempts", "p50", "p95", "p99", "errors", "retries"
        )  # fmt: skip
        _show(
            lambda c, s: rates.latency(c, s, window, type_), columns, as_json,
            f"no step ran within {interval(window)}",
        )  # fmt: skip
        return
    columns = ("type", "started_at", "started", "completed", "failed", "suspended", "live", "rate")
    _show(
        lambda c, s: rates.completion(c, s, window, type_, bucket), columns, as_json,
        f"no saga was started within {interval(window)}",
    )  # fmt: skip


def _show(reading: Reading, columns: Sequence[str], as_json: bool, nothing: str) -> None:
    settings = settings_of()

    async def work(connection: Connection) -> int:
        rows = await reading(connection, settings.schema_name)
        if as_json:
            print_json(rows)
        elif rows:
            shown = [[_plain(getattr(row, column)) for column in columns] for row in rows]
            out.print(table(columns, shown))
        else:
            print(nothing)
        return shell.OK

    shell.with_connection(settings, work)


def _difference(change: RuleChange) -> str:
    if change.after is None:
        return "gone"
    return ", ".join(
        f"{name} {_brief(after)}"
        if before is None
        else f"{name} {_brief(before)} > {_brief(after)}"
        for name, before, after in change.differences
    )


def _brief(value: Any) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, str):
        return " ".join(value.split())
    return ", ".join(value) if isinstance(value, list) else value

"""``bin/saga limit``, ``schedule``, ``retention`` and ``export``: what holds for whole types."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Annotated, Any, LiteralString, cast
from uuid import UUID

import orjson
import typer

from outbox.cli import shell
from outbox.cli.render import table
from outbox.cli.shell import AsJson, RuleNote, out, print_json, settings_of
from outbox.cli.times import parse_duration, parse_instant
from outbox.errors import InputError
from outbox.rules import CatchUp, Rules
from outbox.settings import Settings
from outbox.store.connect import Connection
from outbox.store.functions import call

_BATCH = 500

limit = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
schedule = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
retention = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(help="The schedule's name.")]
Type = Annotated[str, typer.Argument(metavar="TYPE", help="The saga type.")]
LimitName = Annotated[str, typer.Argument(help="The limit's name.")]


@limit.command("set")
def set_limit(
    type_: Type,
    name: LimitName,
    amount: Annotated[int, typer.Argument(help="How many at once, or in a period.")],
    key: Annotated[
        str | None, typer.Option(help="Counts apart what differs at this path of the input.")
    ] = None,
    per: Annotated[
        timedelta | None,
        typer.Option(
            help="So many begin in this period: 1s, 5m, …", parser=parse_duration, metavar="TIME"
        ),
    ] = None,
    counts_waiting: Annotated[
        bool, typer.Option("--counts-waiting", help="Also counts sagas that wait.")
    ] = False,
    note: RuleNote = None,
) -> None:
    """Limits how many sagas of a type run at once, or begin in a period; effective at once."""
    _change(
        lambda rules, c: rules.set_limit(
            c, type_, name, amount, key=key, per=per, counts_waiting=counts_waiting, note=note
        )
    )


@limit.command("drop")
def drop_limit(type_: Type, name: LimitName, note: RuleNote = None) -> None:
    """Ends a limit, one that the definition declares too."""
    _change(lambda rules, c: rules.drop_limit(c, type_, name, note=note))


@limit.command("list")
def list_limits(as_json: AsJson = False) -> None:
    """Lists the limits: what is taken of each, and how many sagas queue for it."""
    columns = ("type", "name", "amount", "per", "key", "taken", "queued", "set_by")
    _list("select * from {}.limits order by type, name", columns, as_json, "no limits")


@schedule.command("set")
def set_schedule(
    name: Name,
    type_: Type,
    cron: Annotated[str, typer.Argument(help="minute hour day month weekday")],
    zone: Annotated[str, typer.Option(help="The time zone in which that holds.")] = "UTC",
    input_: Annotated[str, typer.Option("--input", help="The input, as a JSON object.")] = "{}",
    catch_up: Annotated[
        str, typer.Option(help="Of missed ticks none is started, the last, or all.")
    ] = "last",
    note: RuleNote = None,
) -> None:
    """Sets a recurring saga, or changes it."""
    with shell.friendly():
        try:
            given = orjson.loads(input_)
        except orjson.JSONDecodeError as error:
            raise InputError(f"--input is malformed JSON: {error}") from None
        if not isinstance(given, dict):
            raise InputError(f"--input is a JSON object, not {input_[:60]}")
    _change(
        lambda rules, c: rules.set_schedule(
            c,
            name,
            type_,
            cron,
            zone=zone,
            input=given,
            catch_up=cast(CatchUp, catch_up),
            note=note,
        )
    )


@schedule.command("drop")
def drop_schedule(name: Name, note: RuleNote = None) -> None:
    """Ends a recurring saga; what it started goes on."""
    _change(lambda rules, c: rules.drop_schedule(c, name, note=note))


@schedule.command("pause")
def pause_schedule(name: Name, note: RuleNote = None) -> None:
    """Lets a recurring saga rest."""
    _change(lambda rules, c: rules.pause_schedule(c, name, note=note))


@schedule.command("resume")
def resume_schedule(name: Name, note: RuleNote = None) -> None:
    """Has a recurring saga go on; ticks of the pause are not caught up."""
    _change(lambda rules, c: rules.resume_schedule(c, name, note=note))


@schedule.command("list")
def list_schedules(as_json: AsJson = False) -> None:
    """Lists the recurring sagas."""
    columns = ("name", "type", "cron", "zone", "catch_up", "paused", "last_tick", "next_tick")
    _list("select * from {}.schedules order by name", columns, as_json, "no schedules")


@retention.command("set")
def set_retention(
    type_: Type,
    keep: Annotated[
        timedelta,
        typer.Argument(help="How long: 90d, 4w, …", parser=parse_duration, metavar="TIME"),
    ],
    note: RuleNote = None,
) -> None:
    """How long finished sagas of a type are kept."""
    _change(lambda rules, c: rules.set_retention(c, type_, keep, note=note))


@retention.command("drop")
def drop_retention(type_: Type, note: RuleNote = None) -> None:
    """Finished sagas of a type are kept as long as all others again."""
    _change(lambda rules, c: rules.drop_retention(c, type_, note=note))


def export_command(
    before: Annotated[
        datetime,
        typer.Option(
            help="Those that ended before this instant, as 2026-12-24T18:00+01:00.",
            parser=parse_instant,
            metavar="INSTANT",
        ),
    ],
    type_: Annotated[str | None, typer.Option("--type", help="Only sagas of this type.")] = None,
    purge: Annotated[
        bool, typer.Option("--purge", help="Remove each once its line has been written.")
    ] = False,
) -> None:
    """Writes finished sagas with their whole history, one JSON object a line."""
    settings = settings_of()

    async def work(connection: Connection) -> int:
        after: UUID | None = None
        written = removed = 0
        select = call(settings.schema_name, "select * from {}.export_sagas(%s, %s, %s, %s)")
        remove = call(settings.schema_name, "select {}.purge_exported(%s, %s)")
        while True:
            cursor = await connection.execute(select, (before, type_, _BATCH, after))
            rows = await cursor.fetchall()
            if not rows:
                break
            for _, saga in rows:
                print(orjson.dumps(saga).decode())
            # Nothing is removed whose line may still be lost.
            sys.stdout.flush()
            written += len(rows)
            ids = [saga_id for saga_id, _ in rows]
            after = ids[-1]
            if purge:
                row = await (await connection.execute(remove, (ids, before))).fetchone()
                removed += row[0] if row else 0
        print(f"{written} exported, {removed} removed", file=sys.stderr)
        return shell.OK

    shell.with_connection(settings, work)


def _change(change: Callable[[Rules, Connection], Awaitable[None]]) -> None:
    settings = settings_of()

    async def work(connection: Connection) -> int:
        await change(Rules(settings.schema_name), connection)
        return shell.OK

    shell.with_connection(settings, work)


def _list(query: LiteralString, columns: tuple[str, ...], as_json: bool, nothing: str) -> None:
    settings = settings_of()

    async def work(connection: Connection) -> int:
        rows = await _rows(connection, settings, query)
        if as_json:
            print_json(rows)
        elif rows:
            out.print(table(columns, [[row[c] for c in columns] for row in rows]))
        else:
            print(nothing)
        return shell.OK

    shell.with_connection(settings, work)


async def _rows(
    connection: Connection, settings: Settings, query: LiteralString
) -> list[dict[str, Any]]:
    cursor = await connection.execute(call(settings.schema_name, query))
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]

"""``bin/saga events``, ``subscriptions``, ``subscribe``, ``unsubscribe`` and ``redeliver``: what
sagas told, and who is told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

import orjson
import typer
from psycopg import sql

from outbox.cli import shell
from outbox.cli.act import NOTHING_CHANGED, DryRun, tried
from outbox.cli.render import table
from outbox.cli.shell import AsJson, RuleNote, out, print_json, settings_of
from outbox.operator import Operator
from outbox.settings import Settings
from outbox.store.connect import Connection

_EVERY = 1.0
_AT_ONCE = 100_000
_COLUMNS = (
    "number", "at", "saga_id", "type", "key", "step", "name", "payload", "delivered", "waiting",
    "dead",
)  # fmt: skip
_SUBSCRIPTIONS = (
    "name", "patterns", "url", "waiting", "oldest", "dead", "disabled_at", "disabled_why",
)  # fmt: skip
_DEAD = ("subscription", "event", "name", "saga_id", "key", "attempts", "given_up_at", "error")

Subscription = Annotated[str, typer.Argument(metavar="NAME", help="The subscription's name.")]


def events_command(
    saga_id: Annotated[
        str | None, typer.Option("--saga", help="Only of this saga, by its id or its key.")
    ] = None,
    name: Annotated[str, typer.Option(help="Only of such names: payment.*")] = "*",
    dead: Annotated[
        bool, typer.Option("--dead", help="The dead letters, with their error.")
    ] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Goes on with those that come.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Lists what sagas told, the oldest first, and how far it got."""
    settings = settings_of()
    view, number, columns = (
        ("dead_letters", "event", _DEAD) if dead else ("events", "number", _COLUMNS)
    )

    async def work(connection: Connection) -> int:
        saga = None
        if saga_id is not None:
            saga = await shell.find_saga_id(connection, settings, saga_id)
        last = 0
        rows = await _newest(connection, settings, view, number, columns, name, saga, limit)
        if not follow and not as_json:
            _show(columns, rows, "no dead letters" if dead else "no events")
            return shell.OK
        if as_json and not follow:
            print_json([dict(zip(columns, row, strict=True)) for row in rows])
            return shell.OK
        while True:
            for row in rows:
                _tell(dict(zip(columns, row, strict=True)), as_json)
                last = max(last, row[columns.index(number)])
            await asyncio.sleep(_EVERY)
            rows = await _newest(
                connection, settings, view, number, columns, name, saga, _AT_ONCE, after=last
            )

    shell.with_connection(settings, work)


def subscriptions_command(as_json: AsJson = False) -> None:
    """Lists who is told of which events, and what is still on its way to them."""
    settings = settings_of()

    async def work(connection: Connection) -> int:
        statement = sql.SQL("select {columns} from {view} order by name").format(
            columns=sql.SQL(", ").join(map(sql.Identifier, _SUBSCRIPTIONS)),
            view=sql.Identifier(settings.schema_name, "subscriptions"),
        )
        rows = await (await connection.execute(statement)).fetchall()
        if as_json:
            print_json([dict(zip(_SUBSCRIPTIONS, row, strict=True)) for row in rows])
        else:
            _show(
                _SUBSCRIPTIONS, [(r[0], ", ".join(r[1]), *r[2:]) for r in rows], "no subscriptions"
            )
        return shell.OK

    shell.with_connection(settings, work)


def subscribe_command(
    name: Subscription,
    url: Annotated[str, typer.Argument(help="Where to send the events: https://… or mailto:….")],
    patterns: Annotated[list[str], typer.Argument(help="Of their names: payment.*")],
    secret: Annotated[
        str | None,
        typer.Option(
            envvar="OUTBOX_WEBHOOK_SECRET",
            show_envvar=True,
            help="whsec_<base64>; better by the variable, which no list of processes shows. "
            "Without it, one is made.",
        ),
    ] = None,
    note: RuleNote = None,
) -> None:
    """Sends events to a URL, or as mails; prints the secret that they are signed with."""
    settings = settings_of()

    async def work(connection: Connection) -> int:
        operator = Operator(settings.schema_name)
        made = await operator.subscribe(connection, name, patterns, url, secret, note=note)
        print(made or f"{name}: mails, from workers that have OUTBOX_SMTP_URL")
        return shell.OK

    shell.with_connection(settings, work)


def unsubscribe_command(name: Subscription, note: RuleNote = None) -> None:
    """Ends a subscription; what it has not been told is forgotten."""
    settings = settings_of()

    async def work(connection: Connection) -> int:
        operator = Operator(settings.schema_name)
        forgotten = await operator.unsubscribe(connection, name, note=note)
        print(f"{name}: ended" + (f", {forgotten} events were not delivered" if forgotten else ""))
        return shell.OK

    shell.with_connection(settings, work)


def redeliver_command(
    name: Subscription,
    event: Annotated[int, typer.Argument(help="The event's number: see bin/saga events.")],
    note: Annotated[str, typer.Option("--note", help="Why; it is kept.")],
    dry_run: DryRun = False,
) -> None:
    """Delivers an event to a subscription once more: a dead letter, or one that was lost there."""
    settings = settings_of()

    async def work(connection: Connection) -> int:
        async with tried(connection, dry_run):
            await Operator(settings.schema_name).redeliver(connection, name, event, note)
        print(f"event {event}: on its way to {name}{NOTHING_CHANGED if dry_run else ''}")
        return shell.OK

    shell.with_connection(settings, work)


async def _newest(
    connection: Connection,
    settings: Settings,
    view: str,
    number: str,
    columns: Sequence[str],
    pattern: str,
    saga: object,
    limit: int,
    after: int = 0,
) -> list[tuple[Any, ...]]:
    """The newest rows of a view of events, in their order."""
    statement = sql.SQL(
        "select * from (select {columns} from {view} where {number} > %s "
        "and name like replace(replace(%s, '_', '\\_'), '*', '%%') "
        "and (%s::uuid is null or saga_id = %s) order by {number} desc limit %s) as newest "
        "order by {number}"
    ).format(
        columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
        view=sql.Identifier(settings.schema_name, view),
        number=sql.Identifier(number),
    )
    # Who follows for days may do so while the views are made anew: no plan of it is kept.
    parameters = (after, pattern, saga, saga, limit)
    cursor = await connection.execute(statement, parameters, prepare=False)
    return await cursor.fetchall()


def _show(columns: Sequence[str], rows: Sequence[Sequence[Any]], nothing: str) -> None:
    if rows:
        out.print(table(columns, [[_cell(value) for value in row] for row in rows]))
    else:
        print(nothing)


def _cell(value: Any) -> Any:
    return orjson.dumps(value).decode() if isinstance(value, dict | list) else value


def _tell(row: dict[str, Any], as_json: bool) -> None:
    """One event on a line of its own."""
    if as_json:
        print_json(row)
    else:
        print(
            "  ".join(str(_cell(value)) for value in row.values() if value is not None), flush=True
        )

"""``bin/saga explain``, ``history``, ``paused``, ``waiting``, ``versions`` and ``move``: what helps
to decide, and versions."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer
from psycopg import sql

from outbox.cli import shell
from outbox.cli.act import NOTHING_CHANGED, DryRun, Limit, Note, Seq, show_acted, tried
from outbox.cli.render import table
from outbox.cli.shell import AsJson, SagaId, fail, out, print_json, settings_of
from outbox.client import Client
from outbox.operator import Operator
from outbox.store.connect import Connection


def explain_command(saga_id: SagaId, as_json: AsJson = False) -> None:
    """Says what an abort of a saga would undo, in order, and what would stay."""
    settings = settings_of()

    async def work(connection: Connection) -> int:
        found = await shell.find_saga_id(connection, settings, saga_id)
        rows = await Operator(settings.schema_name).explain_abort(connection, found)
        columns = (
            "place",
            "what",
            "step",
            "element",
            "ordinal",
            "transactional",
            "in_doubt",
            "why",
        )
        return _show([asdict(row) for row in rows], columns, as_json, "nothing was done yet")

    shell.with_connection(settings, work)


def history_command(
    words: Annotated[
        list[str] | None, typer.Argument(help='Words, as in a web search: refund "by phone" -test')
    ] = None,
    step: Annotated[str | None, typer.Option("--step", help="About this step.")] = None,
    error: Annotated[
        str | None, typer.Option("--error", help="After an error of this type.")
    ] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """Shows what people did about suspended sagas before, and what it led to."""
    settings = settings_of()

    async def work(connection: Connection) -> int:
        rows = await Operator(settings.schema_name).past_resolutions(
            connection, step=step, error=error, words=" ".join(words or []) or None, limit=limit
        )
        columns = ("at", "key", "step", "reason", "act", "actor", "note", "led_to", "status")
        return _show([asdict(row) for row in rows], columns, as_json, "nothing like it was found")

    shell.with_connection(settings, work)


def waiting_command(as_json: AsJson = False) -> None:
    """Lists what waits for a signal, a time, a saga or its own lines."""
    columns = ("saga_id", "type", "key", "step", "what", "since", "until")
    _view("waiting", columns, "since", as_json, "nothing waits")


def paused_command(as_json: AsJson = False) -> None:
    """Lists what is paused; a row with neither a saga nor a type is everything."""
    columns = ("saga_id", "type", "key", "note", "actor", "since")
    _view("paused", columns, "since", as_json, "nothing is paused")


def versions_command(as_json: AsJson = False) -> None:
    """Lists the registered versions, their live sagas, and the workers that run them."""
    columns = ("type", "version", "live", "suspended", "oldest_start", "workers", "registered_at")
    _view("live_versions", columns, "registered_at", as_json, "no version is registered")


def move_command(
    version: Annotated[int, typer.Argument(help="The version to go on in.")],
    note: Note,
    saga_id: Annotated[str | None, typer.Option("--saga", help="A saga's id, or its key.")] = None,
    type_: Annotated[str | None, typer.Option("--type", help="All of this type …")] = None,
    old: Annotated[int | None, typer.Option("--from", help="… and of this version.")] = None,
    limit: Limit = 1000,
    dry_run: DryRun = False,
    seq: Seq = None,
    as_json: AsJson = False,
) -> None:
    """Has a saga, or all of a version, go on in another version where the history fits."""
    settings = settings_of()
    if (saga_id is None) == (type_ is None) or (type_ is None) != (old is None):
        fail("give --saga, or --type and --from")

    async def work(connection: Connection) -> int:
        operator = Operator(settings.schema_name)
        if type_ is not None and old is not None:
            rows = await operator.move_many(
                connection, type_, old, version, note, dry_run=dry_run, limit=limit
            )
            return show_acted(rows, dry_run, as_json)
        found = await shell.find_saga_id(connection, settings, saga_id or "")
        seen = await Client(settings.schema_name).status(connection, found)
        at = seq if seq is not None else seen.seq
        async with tried(connection, dry_run):
            await operator.move_saga(connection, found, version, note, at)
        tail = NOTHING_CHANGED if dry_run else ""
        print(f"{found}: version {seen.version} -> {version}{tail}")
        return shell.OK

    shell.with_connection(settings, work)


def _view(view: str, columns: tuple[str, ...], order: str, as_json: bool, none: str) -> None:
    settings = settings_of()

    async def work(connection: Connection) -> int:
        statement = sql.SQL("select {} from {} order by {}").format(
            sql.SQL(", ").join(map(sql.Identifier, columns)),
            sql.Identifier(settings.schema_name, view),
            sql.Identifier(order),
        )
        rows = await (await connection.execute(statement)).fetchall()
        found = [dict(zip(columns, row, strict=True)) for row in rows]
        return _show(found, columns, as_json, none)

    shell.with_connection(settings, work)


def _show(rows: list[dict[str, Any]], columns: tuple[str, ...], as_json: bool, none: str) -> int:
    if as_json:
        print_json(rows)
    elif rows:
        out.print(table(columns, [[row[name] for name in columns] for row in rows]))
    else:
        print(none)
    return shell.OK

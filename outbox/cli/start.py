"""``bin/saga start``: one saga, or one for each line of a file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, TextIO

import orjson
import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from outbox.cli import shell
from outbox.cli.bulk import Line, Summary, read_lines, start_lines
from outbox.cli.shell import AsJson, err, fail, load_apps, print_json, settings_of
from outbox.cli.times import parse_duration, parse_instant
from outbox.client import Client
from outbox.definition.saga import Saga
from outbox.errors import ConfigurationError, InputError
from outbox.settings import Settings
from outbox.store.connect import Connection
from outbox.store.functions import call

Apps = Annotated[
    list[str] | None,
    typer.Option("--app", help="module:app with the saga's definition; default OUTBOX_APPS."),
]


def start_command(
    type_: Annotated[str, typer.Argument(metavar="TYPE", help="The saga type.")],
    key: Annotated[
        str | None, typer.Option(help="Idempotency key: the same key starts nothing twice.")
    ] = None,
    input_: Annotated[
        str | None, typer.Option("--input", help="The input, as a JSON object.")
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(help="Many: a file of JSON Lines or, by its ending .csv, CSV; - for stdin."),
    ] = None,
    file_format: Annotated[
        str | None, typer.Option("--format", help="jsonl or csv, when the ending does not tell.")
    ] = None,
    at: Annotated[
        datetime | None,
        typer.Option(
            help="Not before this instant, as 2026-12-24T18:00+01:00; UTC without offset.",
            parser=parse_instant,
            metavar="INSTANT",
        ),
    ] = None,
    in_: Annotated[
        timedelta | None,
        typer.Option(
            "--in",
            help="Not before so long from now: 90s, 5m, 2h, 1d, or 1h30m.",
            parser=parse_duration,
            metavar="TIME",
        ),
    ] = None,
    priority: Annotated[
        int, typer.Option(help="0 is the lowest; each point counts as a minute of waiting.")
    ] = 0,
    app: Apps = None,
    as_json: AsJson = False,
) -> None:
    """Starts a saga, or one for each line of a file.

    A line of JSON is {"key": "order-42", "input": {…}}, or the bare input. The first line of a CSV
    names the fields, among them perhaps "key". Bad lines are reported and left out; running the
    same file again starts nothing twice, if it has keys.
    """
    settings = settings_of()
    if (input_ is None) == (file is None):
        fail("give either --input JSON or --file FILE")
    if file is not None and key is not None:
        fail("--key goes with --input; in a file every line has its own")
    if at is not None and in_ is not None:
        fail("give either --at or --in")

    async def work(connection: Connection) -> int:
        saga = _find_saga(settings, app, type_)
        due_at = at
        if in_ is not None:
            due_at = await _now(connection, settings) + in_
        client = Client(settings.schema_name)
        if file is None:
            given = _parse_input(input_ or "")
            started = await client.start(
                connection, saga, given, key=key, due_at=due_at, priority=priority
            )
            if as_json:
                print_json({"id": started.id, "key": started.key, "created": started.created})
            else:
                print(f"{started.id}" if started.created else f"{started.id} (existed already)")
            return shell.OK
        summary = await _start_file(
            connection, client, saga, type_, file, file_format, settings, due_at, priority
        )
        for number, problem in summary.refused:
            print(f"line {number}: {problem}", file=sys.stderr)
        if as_json:
            refused = [{"line": n, "problem": p} for n, p in summary.refused]
            print_json({"started": summary.started, "existed": summary.existed, "refused": refused})
        else:
            print(
                f"{summary.started} started, {summary.existed} existed already, "
                f"{len(summary.refused)} lines refused"
            )
        return shell.NO if summary.refused else shell.OK

    shell.with_connection(settings, work)


def _find_saga(settings: Settings, apps: list[str] | None, type_: str) -> Saga[Any] | str:
    """The newest definition of a type, for its model; its name where no app is at hand, for the
    database checks the input too."""
    try:
        found = load_apps(apps or [], settings)
    except ConfigurationError:
        if apps:
            raise
        return type_
    versions = {v: s for app in found for (t, v), s in app.sagas.items() if t == type_}
    return versions[max(versions)] if versions else type_


def _parse_input(text: str) -> dict[str, Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InputError(f"--input is malformed JSON: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f"--input is a JSON object, not {text[:60]}")
    return value


async def _start_file(
    connection: Connection,
    client: Client,
    saga: Saga[Any] | str,
    type_: str,
    file: str,
    file_format: str | None,
    settings: Settings,
    due_at: datetime | None,
    priority: int,
) -> Summary:
    kind = file_format or ("csv" if file.lower().endswith(".csv") else "jsonl")
    if kind not in ("csv", "jsonl"):
        raise ConfigurationError(f"--format is jsonl or csv, not {kind!r}")
    fields = await _input_fields(connection, settings, type_)
    summary = Summary()
    with _open(file) as source:
        lines = read_lines(source, is_csv=kind == "csv", fields=fields)
        await start_lines(
            connection,
            client,
            saga,
            _with_progress(lines, file),
            summary,
            due_at=due_at,
            priority=priority,
        )
    return summary


async def _now(connection: Connection, settings: Settings) -> datetime:
    """The database's clock, which is the one that counts."""
    row = await (
        await connection.execute(call(settings.schema_name, "select {}.clock()"))
    ).fetchone()
    assert row is not None, "a function that returns one row returned none"
    now: datetime = row[0]
    return now


async def _input_fields(connection: Connection, settings: Settings, type_: str) -> dict[str, Any]:
    """The properties of the registered input's JSON schema."""
    statement = call(settings.schema_name, "select {}.input_schema(%s)")
    row = await (await connection.execute(statement, (type_,))).fetchone()
    schema: dict[str, Any] = (row[0] if row else None) or {}
    properties: dict[str, Any] = schema.get("properties", {})
    return properties


@contextmanager
def _open(file: str) -> Iterator[TextIO]:
    # What is not UTF-8 is refused with the line that it stands in, not with the whole file.
    source = sys.stdin.fileno() if file == "-" else file
    try:
        with open(
            source,
            encoding="utf-8-sig",
            errors="surrogateescape",
            newline="",
            closefd=file != "-",
        ) as opened:
            yield opened
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}") from error


def _with_progress(lines: Iterator[Line], file: str) -> Iterator[Line]:
    """Shows how far the reading is, on a terminal."""
    total = None
    if file != "-" and err.is_terminal:
        with Path(file).open("rb") as counted:
            total = sum(1 for _ in counted)
    columns = (
        TextColumn("starting"), BarColumn(), TaskProgressColumn(), TextColumn("{task.completed}"),
        TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as progress:
        task = progress.add_task("", total=total)
        for line in lines:
            progress.advance(task)
            yield line

"""``bin/saga list``, ``show``, ``wait`` and ``audit``: what became of sagas."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import typer
from psycopg import sql

from outbox.cli import shell
from outbox.cli.render import cell, table
from outbox.cli.shell import AsJson, SagaId, fail, out, print_json, settings_of
from outbox.client import Client
from outbox.errors import NotFoundError
from outbox.operator import Operator
from outbox.settings import Settings
from outbox.store.connect import Connection


def list_command(
    status: Annotated[
        str | None, typer.Option(help="CREATED, EXECUTING, COMPENSATING, SUSPENDED, …")
    ] = None,
    type_: Annotated[str | None, typer.Option("--type", help="Only sagas of this type.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Lists sagas, the newest first."""
    settings = settings_of()
    columns = ("saga_id", "type", "key", "status", "state", "step", "attempts", "age", "reason")

    async def work(connection: Connection) -> int:
        statement = sql.SQL(
            "select {columns} from {schema}.overview where (%s::text is null or status = %s) "
            "and (%s::text is null or type = %s) order by saga_id desc limit %s"
        ).format(
            columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
            schema=sql.Identifier(settings.schema_name),
        )
        wanted = status.upper() if status else None
        cursor = await connection.execute(statement, (wanted, wanted, type_, type_, limit))
        rows = await cursor.fetchall()
        if as_json:
            print_json([dict(zip(columns, row, strict=True)) for row in rows])
        elif rows:
            out.print(table(columns, rows))
        else:
            print("no sagas" + (f" with status {wanted}" if wanted else ""))
        return shell.OK

    shell.with_connection(settings, work)


def show_command(saga_id: SagaId, as_json: AsJson = False) -> None:
    """Shows a saga and its whole history."""
    settings = settings_of()

    async def work(connection: Connection) -> int:
        found = await shell.find_saga_id(connection, settings, saga_id)
        overview = await _rows(connection, settings, "overview", "saga_id", found)
        timeline = await _rows(connection, settings, "timeline", "saga_id", found)
        timeline.sort(key=lambda row: row["seq"])
        if as_json:
            print_json({**overview[0], "timeline": timeline})
            return shell.OK
        for name, value in overview[0].items():
            if value is not None:
                line = cell(name.replace("_", " ").ljust(11) + " ")
                line.stylize("dim")
                out.print(line.append_text(cell(value)), soft_wrap=True)
        out.print()
        columns = ("seq", "at", "what", "state", "took", "error")
        out.print(table(columns, [[row[c] for c in columns] for row in timeline]))
        return shell.OK

    shell.with_connection(settings, work)


def wait_command(
    saga_id: SagaId,
    timeout: Annotated[float, typer.Option(help="Seconds.")] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Waits until a saga has ended or is suspended; the exit code says how."""
    settings = settings_of()

    async def work(connection: Connection) -> int:
        found = await shell.find_saga_id(connection, settings, saga_id)
        client = Client(settings.schema_name)
        try:
            status = await client.wait(connection, found, timeout=timeout)
        except TimeoutError as error:
            fail(str(error), shell.RUNNING)
        if as_json:
            print_json(
                {"id": status.id, "status": status.status, "state": status.state,
                 "reason": status.reason, "output": status.output, "error": status.error}
            )  # fmt: skip
        else:
            why = status.reason or (status.error or {}).get("message")
            print(status.status + (f": {why}" if why else ""))
        return {"COMPLETED": shell.OK, "FAILED": shell.NO}.get(status.status, shell.SUSPENDED)

    shell.with_connection(settings, work)


def audit_command(as_json: AsJson = False) -> None:
    """Checks every invariant of every saga; exit 1 if one is violated. Correct while workers
    run."""
    settings = settings_of()

    async def work(connection: Connection) -> int:
        violations = await Operator(settings.schema_name).audit(connection)
        if as_json:
            print_json(
                [
                    {"saga_id": v.saga_id, "invariant": v.invariant, "detail": v.detail}
                    for v in violations
                ]
            )
        elif violations:
            rows = [(v.saga_id, v.invariant, v.detail) for v in violations]
            out.print(table(("saga", "violated", "detail"), rows))
        else:
            print("clean: no invariant is violated")
        return shell.NO if violations else shell.OK

    shell.with_connection(settings, work)


async def _rows(
    connection: Connection, settings: Settings, view: str, column: str, value: UUID
) -> list[dict[str, Any]]:
    statement = sql.SQL("select * from {} where {} = %s").format(
        sql.Identifier(settings.schema_name, view), sql.Identifier(column)
    )
    cursor = await connection.execute(statement, (value,))
    names = [column.name for column in cursor.description or ()]
    rows = [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]
    if not rows:
        raise NotFoundError(f"no saga has the id {value}")
    return rows

"""``bin/saga list``, ``wait`` and ``audit``: what became of sagas."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Annotated
from uuid import UUID

import typer

from outbox.cli import shell
from outbox.cli.complete import complete_status, complete_type
from outbox.cli.render import table
from outbox.cli.shell import AsJson, SagaId, fail, out, print_json, settings_of
from outbox.cli.times import parse_duration
from outbox.client import Client
from outbox.operator import Operator
from outbox.store.connect import Connection
from outbox.viewer.sagas import SagaFilter, SagaRow, find_sagas

Status = Annotated[
    list[str] | None,
    typer.Option(
        help="With this status; may be given more than once.", autocompletion=complete_status
    ),
]


def list_command(
    status: Status = None,
    type_: Annotated[
        str | None, typer.Option("--type", help="Of this type.", autocompletion=complete_type)
    ] = None,
    state: Annotated[str | None, typer.Option(help="In this state of its domain.")] = None,
    step: Annotated[str | None, typer.Option(help="At this step; or it failed there.")] = None,
    error: Annotated[
        str | None, typer.Option(help="With an error of this type: ProviderDown.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Whose key begins so.")] = None,
    older_than: Annotated[
        timedelta | None,
        typer.Option(
            help="Started longer ago: 90s, 2h, 1d.", parser=parse_duration, metavar="TIME"
        ),
    ] = None,
    younger_than: Annotated[
        timedelta | None,
        typer.Option(help="Started less long ago.", parser=parse_duration, metavar="TIME"),
    ] = None,
    before: Annotated[
        UUID | None, typer.Option(help="The next page: what the last one named.", metavar="ID")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=1000, help="At most so many, the newest first.")
    ] = 50,
    as_json: AsJson = False,
) -> None:
    """Lists sagas, the newest first."""
    settings = settings_of()
    wanted = SagaFilter(
        type=type_,
        statuses=tuple(given.upper() for given in status or ()),
        state=state,
        step=step,
        error=error,
        key_prefix=key,
        older_than=older_than,
        younger_than=younger_than,
    )
    columns = ("saga_id", "type", "key", "status", "state", "step", "attempts", "age", "reason")

    async def work(connection: Connection) -> int:
        page = await find_sagas(connection, settings.schema_name, wanted, before, limit)
        if as_json:
            print_json(page.rows)
        elif page.rows:
            out.print(
                table(columns, [[_why(row) if c == "reason" else getattr(row, c) for c in columns]
                                for row in page.rows])
            )  # fmt: skip
        elif page.next is None:
            print("no sagas" + (f" with status {' or '.join(wanted.statuses)}" if status else ""))
        if page.next is not None and page.searched_to is not None:
            how = (
                "more" if len(page.rows) == limit else "few fit, those before are not looked at yet"
            )
            when = f"{page.searched_to.astimezone():%Y-%m-%d %H:%M:%S}"
            print(f"{how}: --before {page.next} ({when})", file=sys.stderr)
        return shell.OK

    shell.with_connection(settings, work)


def _why(row: SagaRow) -> str | None:
    """Why it stands as it does: for a person, or what it failed with."""
    if row.error is None:
        return row.reason
    return ": ".join(str(row.error[k]) for k in ("type", "message") if row.error.get(k))


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

"""``bin/saga retry``, ``abort`` and ``resolve``: what a person may do to a saga."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from outbox.cli import shell
from outbox.cli.shell import SagaId, settings_of
from outbox.client import Client
from outbox.operator import Operator
from outbox.store.connect import Connection

Note = Annotated[str, typer.Option("--note", help="Why; it is kept with the act.")]


def retry_command(saga_id: SagaId, note: Note = "retried from the command line") -> None:
    """Runs a suspended saga's failed step again, now."""
    _act("retry", saga_id, note)


def abort_command(saga_id: SagaId, note: Note) -> None:
    """Undoes a saga, past its pivot too: everything that declares a compensation."""
    _act("abort", saga_id, note)


def resolve_command(
    saga_id: SagaId,
    status: Annotated[str, typer.Argument(help="completed or failed")],
    note: Note,
) -> None:
    """Closes a suspended saga that was settled by hand."""
    _act("resolve", saga_id, note, status.upper())


def _act(act: Literal["retry", "abort", "resolve"], given: str, note: str, *more: str) -> None:
    settings = settings_of()

    async def work(connection: Connection) -> int:
        found = await shell.find_saga_id(connection, settings, given)
        operator = Operator(settings.schema_name)
        seen = await Client(settings.schema_name).status(connection, found)
        arguments: tuple[Any, ...] = (connection, found, *more, note, seen.seq)
        status = await getattr(operator, act)(*arguments)
        print(f"{found}: {seen.status} -> {status}")
        return shell.OK

    shell.with_connection(settings, work)

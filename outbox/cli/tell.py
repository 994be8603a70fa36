"""``bin/saga signal``: tells a saga what it waits for."""

from __future__ import annotations

from typing import Annotated

import orjson
import typer

from outbox.cli import shell
from outbox.cli.shell import SagaId, fail, settings_of
from outbox.client import Client
from outbox.store.connect import Connection


def signal_command(
    saga_id: SagaId,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The signal's name.")],
    payload: Annotated[str | None, typer.Option(help="What it says, as JSON.")] = None,
    key: Annotated[
        str | None, typer.Option(help="Names this telling: the same key counts once.")
    ] = None,
) -> None:
    """Tells a saga what it waits for. Prints delivered, kept (it came early) or repeated."""
    settings = settings_of()
    try:
        found = None if payload is None else orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        fail(f"--payload {payload!r} is not JSON: {error}")

    async def work(connection: Connection) -> int:
        saga = await shell.find_saga_id(connection, settings, saga_id)
        client = Client(settings.schema_name)
        print(await client.signal(connection, saga, name, found, key=key))
        return shell.OK

    shell.with_connection(settings, work)

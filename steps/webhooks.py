"""``python -m steps.webhooks``: what the carrier tells us becomes a signal to the order's saga.

A delivery is told with its own id as the signal's key, so it may be repeated as often as the
carrier likes. Every delivery that needs no repetition is answered with 200: also one whose saga has
ended meanwhile, which no repetition would bring back.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import uvicorn
from psycopg_pool import AsyncConnectionPool
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import outbox
from outbox import Client, OutboxError
from steps.server import Server
from steps.settings import ExampleSettings
from steps.signatures import BadSignature, check

SIGNALS = frozenset({"delivered"})
"""What a webhook may signal: not every signal is the carrier's to give."""


def build(dsn: str, schema: str, secret: str) -> Starlette:
    """Make the receiver.

    Args:
        dsn: the engine's database.
        schema: the engine's schema.
        secret: what the carrier signs with.

    Returns:
        An application with ``POST /webhooks/carrier``.
    """
    client = Client(schema)
    pool = AsyncConnectionPool(dsn, min_size=1, max_size=4, open=False)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with pool:
            yield

    async def receive(http: Request) -> Response:
        body = await http.body()
        try:
            delivery = check(secret, http.headers, body)
        except BadSignature as error:
            return _answer(401, "refused", str(error))
        try:
            told = json.loads(body)
            signal, data = told["type"], told["data"]
            saga_id = UUID(data.pop("reference"))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            return _answer(400, "malformed", repr(error))
        if signal not in SIGNALS:
            return _answer(200, "ignored", f"nobody waits for {signal!r}")
        try:
            async with pool.connection() as connection:
                fate = await client.signal(connection, saga_id, signal, data, key=delivery)
        except OutboxError as error:
            # The saga has ended or is not ours: it will not be otherwise the next time.
            return _answer(200, "ignored", str(error))
        return _answer(200, fate)

    return Starlette(
        routes=[Route("/webhooks/carrier", receive, methods=["POST"])], lifespan=lifespan
    )


def _answer(status: int, fate: str, why: str | None = None) -> JSONResponse:
    return JSONResponse({"fate": fate} | ({} if why is None else {"why": why}), status)


def main() -> None:
    """Read the arguments and the settings, and serve."""
    parser = argparse.ArgumentParser(prog="python -m steps.webhooks", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--port-file", type=Path, metavar="FILE", help="write the port here")
    options = parser.parse_args()
    settings, examples = outbox.Settings(), ExampleSettings()
    try:
        listener = socket.create_server((options.host, options.port), backlog=512)
    except OSError as error:
        parser.error(f"cannot listen on {options.host} port {options.port}: {error.strerror}")
    url = f"http://{options.host}:{listener.getsockname()[1]}"
    with outbox.database(settings) as dsn:
        config = uvicorn.Config(
            build(dsn, settings.schema_name, examples.webhook_secret.get_secret_value()),
            ws="none",
            log_level="warning",
            access_log=False,
        )
        Server(config, url, options.port_file).run(sockets=[listener])


if __name__ == "__main__":
    main()

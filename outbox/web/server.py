"""Serves the application until a signal ends it."""

from __future__ import annotations

import logging
import signal
import socket

import uvicorn
from starlette.applications import Starlette

from outbox.telemetry import Telemetry
from outbox.web.settings import WebSettings


class _Server(uvicorn.Server):
    """Says where it listens, once it does."""

    def __init__(self, config: uvicorn.Config, telemetry: Telemetry) -> None:
        super().__init__(config)
        self._telemetry = telemetry

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for server in self.servers:
            for listener in server.sockets:
                host, port = listener.getsockname()[:2]
                shown = f"[{host}]" if ":" in host else host
                address = f"http://{shown}:{port}{self.config.root_path}/admin"
                self._telemetry.emit("web_started", address=address)


def run_server(app: Starlette, web: WebSettings, telemetry: Telemetry) -> None:
    """Serves until SIGTERM or SIGINT; what is being answered then gets five seconds.

    Raises:
        SystemExit: it cannot listen there.
    """
    # Why the database cannot be reached is told once (outbox.web.reach), and not by each request.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    # uvicorn ends in order at a signal, then raises it once more for whoever waits for it.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    config = uvicorn.Config(
        app,
        host=web.host,
        port=web.port,
        root_path=web.root_path,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # who the peer is decides which headers are believed
        timeout_graceful_shutdown=5,
    )
    _Server(config, telemetry).run()

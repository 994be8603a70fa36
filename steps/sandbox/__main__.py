"""``python -m steps.sandbox``: serve the sandbox until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import socket
import sqlite3
from pathlib import Path

import uvicorn

from steps.sandbox import application
from steps.sandbox.callbacks import deliver_callbacks
from steps.sandbox.connection import AbortableProtocol
from steps.sandbox.partner_store import PartnerStore
from steps.sandbox.store import Store
from steps.server import Server
from steps.signatures import TEST_SECRET


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m steps.sandbox", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument(
        "--store", type=Path, required=True, metavar="FILE", help="SQLite file it remembers in"
    )
    parser.add_argument(
        "--port-file", type=Path, metavar="FILE", help="write the port here once it accepts"
    )
    parser.add_argument(
        "--key-ttl",
        type=float,
        default=86_400.0,
        metavar="SECONDS",
        help="how long idempotency keys are remembered (default: %(default)s)",
    )
    parser.add_argument(
        "--slow",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="what the fault slow takes (default: %(default)s)",
    )
    parser.add_argument(
        "--search-lag",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="how far search is behind (default: %(default)s)",
    )
    parser.add_argument(
        "--callback-delay",
        type=float,
        default=0.5,
        metavar="SECONDS",
        help="how long after a booking its callback is called (default: %(default)s)",
    )
    parser.add_argument(
        "--callback-secret",
        default=TEST_SECRET,
        metavar="whsec_...",
        help="what callbacks are signed with (default: %(default)s)",
    )
    options = parser.parse_args()
    try:
        listener = socket.create_server((options.host, options.port), backlog=512)
    except OSError as error:
        parser.error(f"cannot listen on {options.host} port {options.port}: {error.strerror}")
    url = f"http://{options.host}:{listener.getsockname()[1]}"
    try:
        store = Store(options.store, options.key_ttl)
        partners = PartnerStore(options.store, options.callback_delay)
    except sqlite3.DatabaseError as error:
        parser.error(f"{options.store} cannot be used as a store ({error}); name another file")
    config = uvicorn.Config(
        application.build(store, partners, slow=options.slow, search_lag=options.search_lag),
        http=AbortableProtocol,
        ws="none",
        lifespan="off",
        log_level="error",
        access_log=False,
        # Idle connections are kept longer than clients keep them, so it is never us who closes
        # one at the moment at which a request is on its way.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
    )

    def call_back() -> asyncio.Task[None]:
        return asyncio.create_task(deliver_callbacks(partners, options.callback_secret))

    try:
        Server(config, url, options.port_file, call_back).run(sockets=[listener])
    finally:
        partners.close()
        store.close()


if __name__ == "__main__":
    main()

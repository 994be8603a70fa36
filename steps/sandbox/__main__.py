"""``python -m steps.sandbox``: serve the sandbox until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from steps.sandbox import application
from steps.sandbox.connection import AbortableProtocol
from steps.sandbox.store import Store


class Server(uvicorn.Server):
    """A server that announces itself and for which a signal is an orderly end, not a death."""

    def __init__(self, config: uvicorn.Config, url: str, port_file: Path | None) -> None:
        super().__init__(config)
        self._url = url
        self._port_file = port_file

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept, then say where."""
        await super().startup(sockets)
        if self._port_file is not None:
            # A reader sees no file or the whole number, never an empty file.
            partial = self._port_file.with_name(f"{self._port_file.name}.partial")
            partial.write_text(self._url.rpartition(":")[2])
            partial.rename(self._port_file)
        print(self._url, flush=True)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on a signal; uvicorn itself would raise it again and end with its number."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        yield

    def _stop(self) -> None:
        self.should_exit = True


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
    options = parser.parse_args()
    try:
        listener = socket.create_server((options.host, options.port), backlog=512)
    except OSError as error:
        parser.error(f"cannot listen on {options.host} port {options.port}: {error.strerror}")
    url = f"http://{options.host}:{listener.getsockname()[1]}"
    try:
        store = Store(options.store, options.key_ttl)
    except sqlite3.DatabaseError as error:
        parser.error(f"{options.store} cannot be used as a store ({error}); name another file")
    config = uvicorn.Config(
        application.build(store, slow=options.slow, search_lag=options.search_lag),
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
    try:
        Server(config, url, options.port_file).run(sockets=[listener])
    finally:
        store.close()


if __name__ == "__main__":
    main()

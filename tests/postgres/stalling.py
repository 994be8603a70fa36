"""A way to Postgres that goes silent, as a host does that vanishes behind its address."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from psycopg.conninfo import conninfo_to_dict, make_conninfo


class StallingProxy:
    """Forwards connections; those that are open when it is told to stall lose their server, and
    are told nothing."""

    def __init__(self, upstream: str) -> None:
        self._upstream = conninfo_to_dict(upstream)
        self._pipes: set[asyncio.Task[None]] = set()
        self._servers: set[asyncio.StreamWriter] = set()
        self._clients: set[asyncio.StreamWriter] = set()
        self.dsn = ""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[StallingProxy]:
        """Serves in this event loop."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        self.dsn = make_conninfo("", **{**self._upstream, "host": "127.0.0.1", "port": port})
        try:
            yield self
        finally:
            server.close()
            self.stall()
            for client in self._clients:
                client.transport.abort()

    def stall(self) -> None:
        """From now on nobody answers on the connections that are open."""
        for pipe in self._pipes:
            pipe.cancel()
        for server in self._servers:
            server.transport.abort()
        self._pipes.clear()
        self._servers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        path = f"{self._upstream['host']}/.s.PGSQL.{self._upstream.get('port', 5432)}"
        back, forth = await asyncio.open_unix_connection(path)
        self._servers.add(forth)
        for source, sink in ((reader, forth), (back, writer)):
            self._pipes.add(asyncio.create_task(self._pipe(source, sink)))

    async def _pipe(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        sink.close()

"""A proxy between a client and Postgres that loses answers at the worst moment.

It runs in a thread with an event loop of its own, so that workers in other processes and tests of
both kinds can use it.
"""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.postgres.faults import Fault, Faults
from tests.postgres.wire import (
    CANCEL_REQUEST,
    GSS_REQUEST,
    SSL_REQUEST,
    Conversation,
    Unit,
    read_message,
)

Result = TypeVar("Result")


class CommitDroppingProxy:
    """Forwards everything until a fault is armed; every fault cuts one connection when it strikes.

    Args:
        upstream: the DSN of the server, over a unix socket or over TCP without TLS.
        seed: of the dice for faults with a probability.
    """

    def __init__(self, upstream: str, *, seed: int = 0) -> None:
        self._upstream = {k: str(v) for k, v in conninfo_to_dict(upstream).items() if v is not None}
        self._before = Faults(seed)
        self._after = Faults(seed)
        self._struck: list[str] = []
        self._refusing = threading.Event()
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._in_loop(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._in_loop(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def dsn(self) -> str:
        """The upstream's DSN by way of the proxy."""
        return self._way(self._upstream)

    def before(self, dsn: str) -> str:
        """The DSN of another database of the same server, by way of the proxy."""
        return self._way(conninfo_to_dict(dsn))

    def _way(self, there: Mapping[str, Any]) -> str:
        plain = {"sslmode": "disable", "gssencmode": "disable"}
        way = {**there, **plain, "host": "127.0.0.1", "port": str(self.port)}
        return make_conninfo("", **way)

    @property
    def struck(self) -> list[str]:
        """The names of the faults that struck so far, in order: `after commit`, `after TEXT`,
        `before TEXT`."""
        return list(self._struck)

    def drop_after_commit(self, times: int | None = 1, *, probability: float = 1) -> None:
        """Let a COMMIT be executed, then cut the connection instead of passing on the answer.

        Args:
            times: how often, or None for until `disarm`.
            probability: for each COMMIT.
        """
        fault = Fault("after commit", lambda unit: unit.committed, times, probability)
        self._after.arm(fault)

    def drop_after_statement(
        self, matching: bytes, times: int | None = 1, *, probability: float = 1
    ) -> None:
        """Let a statement be executed, then cut the connection instead of passing on its answer.
        Outside a transaction block it is committed; inside one it will be rolled back. A statement
        that fails is answered as usual.

        Args:
            matching: a part of the statement's text, in any case.
            times: how often, or None for until `disarm`.
            probability: for each such statement.
        """

        def matches(unit: Unit) -> bool:
            return unit.executes(matching) and not unit.failed

        self._after.arm(Fault(f"after {matching.decode()}", matches, times, probability))

    def drop_before(
        self, matching: bytes, times: int | None = 1, *, probability: float = 1
    ) -> None:
        """Cut the connection when the client sends a statement, which is then not executed; the
        arguments are those of `drop_after_statement`."""

        def matches(unit: Unit) -> bool:
            return unit.executes(matching)

        self._before.arm(Fault(f"before {matching.decode()}", matches, times, probability))

    def disarm(self) -> None:
        """Forget all faults."""
        self._before.disarm()
        self._after.disarm()

    def sever(self) -> None:
        """Cut every connection, now."""
        self._in_loop(self._sever())

    def refuse(self, refusing: bool = True) -> None:
        """Cut every connection and every new one at once, until called with False."""
        if refusing:
            self._refusing.set()
            self.sever()
        else:
            self._refusing.clear()

    def _in_loop(self, work: Coroutine[None, None, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=20)

    async def _sever(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _close(self) -> None:
        self._server.close()
        await self._sever()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(writer)
        try:
            # A peer that goes away in the middle is what this is for.
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                if not self._refusing.is_set():
                    await self._forward(reader, writer)
        finally:
            writer.transport.abort()
            self._open.discard(writer)
            self._tasks.discard(task)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = self._upstream.get("host", "127.0.0.1"), self._upstream.get("port", "5432")
        if host.startswith("/"):
            server = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        else:
            server = await asyncio.open_connection(host, int(port))
        conversation = Conversation()
        pumps = [
            asyncio.create_task(self._from_client(reader, writer, server[1], conversation)),
            asyncio.create_task(self._from_server(server[0], writer, conversation)),
        ]
        self._open.add(server[1])
        try:
            # Either end closes both; what a pump raises is that its peer has gone.
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            server[1].transport.abort()
            self._open.discard(server[1])
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _from_client(
        self,
        client: asyncio.StreamReader,
        back: asyncio.StreamWriter,
        server: asyncio.StreamWriter,
        conversation: Conversation,
    ) -> None:
        opening = await read_message(client, typed=False)
        while opening.code() in (SSL_REQUEST, GSS_REQUEST):
            back.write(b"N")
            opening = await read_message(client, typed=False)
        server.write(opening.encode())
        if opening.code() == CANCEL_REQUEST:
            await server.drain()
            await client.read()
            return
        while True:
            message = await read_message(client)
            unit = conversation.sent(message)
            if message.kind in (b"Q", b"B"):
                struck = self._before.strike(Unit(unit.statements[-1:]))
                if struck is not None:
                    self._struck.append(struck)
                    return
            server.write(message.encode())
            await server.drain()

    async def _from_server(
        self,
        server: asyncio.StreamReader,
        client: asyncio.StreamWriter,
        conversation: Conversation,
    ) -> None:
        kept_back = b""
        while True:
            message = await read_message(server)
            unit = conversation.received(message)
            kept_back += message.encode()
            if message.kind == b"Z":
                struck = self._after.strike(unit)
                if struck is not None:
                    self._struck.append(struck)
                    return
            elif (
                # At a COPY and at a Flush the client must hear something before it goes on.
                message.kind not in (b"G", b"H", b"W")
                and conversation.is_whole(unit)
                and self._after.may_strike(unit)
            ):
                continue
            client.write(kept_back)
            kept_back = b""
            await client.drain()

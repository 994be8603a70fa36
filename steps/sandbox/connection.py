"""Responses that are none: a connection closed, or left hanging, without an answer."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

_TRANSPORT = "transport"


class AbortableProtocol(H11Protocol):
    """uvicorn's HTTP protocol, which also hands its transport to the application.

    ASGI has no message for *close the connection now*; the state that uvicorn copies into every
    request's scope is kept per connection here, so that a response can reach its own transport.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, dict(app_state), _loop)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Keep the transport where responses find it."""
        # asyncio's Protocol declares BaseTransport; uvicorn narrows it in the same way.
        super().connection_made(transport)
        self.app_state[_TRANSPORT] = transport


class DroppedConnection(Response):
    """Closes the connection at once: the client sees it end without a byte of an answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Abort, and return only when the server knows, or it would answer 500 by itself."""
        scope["state"][_TRANSPORT].abort()
        await _disconnected(receive)


class NoAnswer(Response):
    """Says nothing for as long as the client waits, or until the server stops."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait for the client to give up."""
        try:
            await _disconnected(receive)
        finally:
            # The server stops: without this it would answer 500 to a client that was to hear
            # nothing.
            scope["state"][_TRANSPORT].abort()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

"""A request to the API, as a handler gets it: who makes it, what it says, and connections."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from starlette.requests import Request

from outbox.errors import NotFoundError
from outbox.web.address import address_of
from outbox.web.api.tokens import Token
from outbox.web.mask import Masking
from outbox.web.site import Site

_STATEMENTS = (
    "select set_config('outbox.actor', %s, true), set_config('statement_timeout', '10s', true)"
)


class ApiRequest:
    """One request. ``token`` is None where none is needed; ``query`` and ``body`` are instances of
    the operation's models, ``key`` the ``Idempotency-Key``."""

    def __init__(self, request: Request, site: Site, token: Token | None) -> None:
        self.request, self.site, self.token = request, site, token
        self.query: Any = None
        self.body: Any = None
        self.key: str | None = None

    @property
    def root(self) -> str:
        """The path under which everything is served."""
        return self.site.web.root_path

    @property
    def masking(self) -> Masking:
        """Which fields are secret."""
        return self.site.rendering.masking

    @property
    def address(self) -> str:
        """Where the request comes from."""
        return address_of(self.request, self.site.web.proxies)

    def path(self, name: str) -> str:
        """A parameter of the path."""
        return str(self.request.path_params[name])

    def saga_id(self, name: str = "id") -> UUID:
        """The saga that the path names.

        Raises:
            NotFoundError: that is no id.
        """
        given = self.path(name)
        try:
            return UUID(given)
        except ValueError:
            raise NotFoundError(
                f"{given[:100]!r} is not the id of a saga: find it with GET /api/sagas?key="
            ) from None

    @asynccontextmanager
    async def writing(self, *, dry_run: bool = False) -> AsyncIterator[AsyncConnection[Any]]:
        """A connection in a transaction of the token's; in a dry run it is taken back."""
        assert self.token is not None, "whoever writes has a token"
        async with self.site.lend() as connection, connection.transaction(force_rollback=dry_run):
            await connection.execute(_STATEMENTS, (self.token.actor,))
            yield connection

    def tell_act(self, act: str, **fields: Any) -> None:
        """Tells the log what the token's holder did."""
        assert self.token is not None, "whoever acts has a token"
        self.site.telemetry.emit("operator_act", act=act, actor=self.token.actor, **fields)

"""An application's own routes on the web server's HTTP API::

    from outbox.api import Call, Route

    async def create_payment(call: Call[Payment]) -> Started:
        return await call.start("payment", call.body)

    routes = [Route("POST", "/api/payments", create_payment, body=Payment)]

``OUTBOX_WEB_ROUTES=shop.routes:routes`` has the server serve them, with the tokens, limits, problem
answers and the OpenAPI description of its own routes. Nothing here needs the extra ``web``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from psycopg import AsyncConnection
from pydantic import BaseModel

from outbox.client import Client, Input, Started
from outbox.definition.saga import Saga

__all__ = ["Call", "Route"]

B = TypeVar("B")

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
RouteRole = Literal["viewer", "starter", "operator"]


@dataclass(frozen=True, slots=True)
class Call(Generic[B]):
    """A request to an application's own route, which its token may make.

    Args:
        body: an instance of the route's model; None where the route has none.
        key: the request's ``Idempotency-Key``; "" where the route wants none.
        caller: the name of the token.
        path: the parameters of the route's path.
        query: the parameters of the query that the route names.
        connection: in a transaction that ends with the handler: what the handler writes and the
            saga that it starts are committed together, or not at all when it raises. Of a GET it
            changes nothing.
        client: starts and finds sagas in the schema that the server serves.
    """

    body: B
    key: str
    caller: str
    path: Mapping[str, str]
    query: Mapping[str, str]
    connection: AsyncConnection[Any]
    client: Client

    async def start(
        self, saga: Saga[Any] | str, input: Input, *, key: str | None = None, priority: int = 0
    ) -> Started:
        """Starts a saga whose key is the request's.

        Args:
            saga: the saga, or the name of its type.
            input: an instance of its model, or what that model is made from.
            key: another key than the request's.
            priority: 0 is the lowest.

        Raises:
            as ``Client.start``; the server answers 400, 404 or 422 then.
        """
        return await self.client.start(
            self.connection, saga, input, key=key or self.key, priority=priority
        )


Handler = Callable[[Call[Any]], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Route:
    """A route of an application.

    Args:
        method: of HTTP.
        path: under ``/api/``, such as ``/api/payments/{order}``.
        handler: answers; what it returns is sent as JSON: of a ``Started`` 202 with the saga's
            address in ``Location``, of None 204, of anything else (a pydantic model, or what JSON
            knows) 200. An ``OutboxError`` becomes a problem; a ``NotFoundError`` is 404.
        body: a pydantic model of the body; None: the route takes none.
        summary: a line for the description; default the first of the handler's docstring.
        key: whether the header ``Idempotency-Key`` is needed; by default for POST.
        role: of the tokens that may call it; default ``viewer`` for GET, else ``starter``.
        query: the parameters of the query, none of them needed, each with its description.
    """

    method: Method
    path: str
    handler: Handler
    body: type[BaseModel] | None = None
    summary: str = ""
    key: bool | None = None
    role: RouteRole | None = None
    query: Mapping[str, str] = field(default_factory=dict)

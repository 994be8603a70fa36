"""The applications' own routes, served as ours are."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model
from starlette.responses import Response

from outbox.api import Call, Route
from outbox.client import Started
from outbox.definition.reference import load_reference
from outbox.errors import ConfigurationError
from outbox.web.api.operation import Answer, Operation
from outbox.web.api.request import ApiRequest
from outbox.web.api.shown import JsonValue, json_answer
from outbox.web.api.starting import STARTED, started_answer

_PATH = re.compile(r"/api/(?:[A-Za-z0-9._~-]+|\{[a-z_]+\})(?:/(?:[A-Za-z0-9._~-]+|\{[a-z_]+\}))*")


def load_routes(references: str) -> list[Route]:
    """The routes that ``module:attribute, …`` names; each attribute is a Route or a list of them.

    Raises:
        ConfigurationError: there is no such thing there, or a route is impossible.
    """
    found: list[Route] = []
    for reference in filter(None, map(str.strip, references.split(","))):
        found += _load(reference)
    return found


def own_operations(routes: Sequence[Route], ours: Sequence[Operation]) -> list[Operation]:
    """Routes as operations.

    Args:
        ours: whose addresses are taken.

    Raises:
        ConfigurationError: a route is impossible, or its address is taken.
    """
    taken = {(one.method, _shape(one.path)) for one in ours}
    paths = {_shape(one.path): one.path for one in ours}
    made = []
    for route in routes:
        if not _PATH.fullmatch(route.path):
            raise ConfigurationError(
                f"the route {route.path!r} is not of the form /api/name/{{parameter}}"
            )
        place = (route.method, _shape(route.path))
        if place in taken:
            raise ConfigurationError(f"the route {route.method} {route.path} is there already")
        taken.add(place)
        like = paths.setdefault(_shape(route.path), route.path)
        if like != route.path:  # whichever comes first would answer for both
            raise ConfigurationError(
                f"the route {route.path} has to name its parameters as {like} does"
            )
        made.append(_operation(route))
    return made


def _load(reference: str) -> list[Route]:
    where = f"OUTBOX_WEB_ROUTES names {reference!r}"
    found = load_reference(reference, where)
    routes = [found] if isinstance(found, Route) else found
    if not isinstance(routes, list | tuple) or not all(isinstance(one, Route) for one in routes):
        module, _, attribute = reference.partition(":")
        raise ConfigurationError(
            f"{where}: module {module} has no list of outbox.api.Route named {attribute!r}"
        )
    return list(routes)


def _operation(route: Route) -> Operation:
    reads = route.method == "GET"
    doc = inspect.getdoc(route.handler) or ""
    needs_key = route.method == "POST" if route.key is None else route.key
    query = None
    if route.query:
        fields: dict[str, Any] = {
            name: (str | None, Field(None, description=text)) for name, text in route.query.items()
        }
        query = create_model("OwnQuery", __config__=ConfigDict(extra="forbid"), **fields)
    answers = {202: STARTED} if route.method == "POST" else {}
    return Operation(
        route.method,
        route.path,
        _Handler(route, reads),
        route.role or ("viewer" if reads else "starter"),
        route.summary or doc.partition("\n")[0] or f"{route.method} {route.path}",
        {200: Answer("Done.", JsonValue), 204: Answer("Done; nothing to say."), **answers},
        tag="application",
        description=doc,
        path_parameters=dict.fromkeys(re.findall(r"\{([a-z_]+)\}", route.path), ""),
        query=query,
        body=route.body,
        key="required" if needs_key else None,
        problems=(404, 409, 422),
    )


class _Handler:
    """Calls the route's handler in a transaction, and sends what it returns."""

    def __init__(self, route: Route, reads: bool) -> None:
        self._route, self._reads = route, reads

    async def __call__(self, call: ApiRequest) -> Response:
        assert call.token is not None
        async with call.site.reading() if self._reads else call.writing() as connection:
            given: dict[str, Any] = {} if call.query is None else call.query.model_dump()
            made = Call(
                body=call.body,
                key=call.key or "",
                caller=call.token.name,
                path={name: str(value) for name, value in call.request.path_params.items()},
                query={name: value for name, value in given.items() if value is not None},
                connection=connection,
                client=call.site.client,
            )
            said = await self._route.handler(made)
            match said:
                case None:
                    return Response(status_code=204)
                case Started():
                    return await started_answer(call, connection, "", said)
                case BaseModel():
                    return json_answer(said)
                case _:
                    return json_answer(JsonValue(said))


def _shape(path: str) -> str:
    return re.sub(r"\{[a-z_]+\}", "{}", path)

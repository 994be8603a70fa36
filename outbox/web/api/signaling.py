"""``POST /api/sagas/{id}/signals/{name}``: tells a saga what it waits for."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

import orjson
from psycopg import AsyncConnection
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from outbox.errors import NotFoundError
from outbox.viewer import saga
from outbox.web.api.operation import Answer, AnyJson, Operation
from outbox.web.api.problem import ProblemError
from outbox.web.api.request import ApiRequest
from outbox.web.api.shown import Links, json_answer, links_of
from outbox.web.api.values import Text

_DESCRIPTION = (
    "The body is the payload: any JSON, or none. A step that waits for the signal goes on; what "
    "comes early is kept. With a key the same telling counts once, however often it is sent; with "
    "another payload it is refused (422)."
)
_NAME = {"name": "the signal's name"}


class SignalQuery(BaseModel):
    """Which saga, by what its starter knows of it."""

    model_config = ConfigDict(extra="forbid")

    type: Text = Field(description="the saga's type")
    key: Text = Field(description="the saga's key")


class Signaled(BaseModel):
    """What became of a signal."""

    id: UUID
    signal: str
    outcome: Literal["delivered", "kept", "repeated"] = Field(
        description="delivered: a step goes on; kept for the step that will wait for it; repeated: "
        "it was told before, and nothing happened"
    )
    links: Links


def operations() -> list[Operation]:
    """The routes."""
    told = {200: Answer("It was told.", Signaled)}
    body = AnyJson({}, required=False)
    return [
        Operation(
            "POST", "/api/sagas/{id}/signals/{name}", signal_saga, "starter", "Signal a saga", told,
            tag="signals", description=_DESCRIPTION, key="optional", body=body,
            path_parameters={"id": "the id of the saga", **_NAME}, problems=(404, 409, 422),
        ),
        Operation(
            "POST", "/api/signals/{name}", signal_by_key, "starter", "Signal a saga by its key",
            told, tag="signals", description=_DESCRIPTION, key="optional", body=body,
            path_parameters=_NAME, query=SignalQuery, problems=(404, 409, 422),
        ),
    ]  # fmt: skip


async def signal_saga(call: ApiRequest) -> Response:
    """Signals the saga that the path names."""
    saga_id = call.saga_id()
    async with call.writing() as connection:
        return await _signal(call, connection, saga_id)


async def signal_by_key(call: ApiRequest) -> Response:
    """Signals the saga that the query names."""
    query: SignalQuery = call.query
    async with call.writing() as connection:
        found = await call.site.client.find(connection, query.type, query.key)
        if found is None:
            raise NotFoundError(f"no saga of type {query.type!r} has the key {query.key!r}")
        return await _signal(call, connection, found.id)


async def _signal(call: ApiRequest, connection: AsyncConnection[Any], saga_id: UUID) -> Response:
    name = call.path("name")
    outcome = await call.site.client.signal(connection, saga_id, name, call.body, key=call.key)
    if outcome == "repeated":
        await _check_payload(call, connection, saga_id, name)
    links = links_of(call.root, saga_id)
    return json_answer(Signaled(id=saga_id, signal=name, outcome=outcome, links=links))


async def _check_payload(
    call: ApiRequest, connection: AsyncConnection[Any], saga_id: UUID, name: str
) -> None:
    told = await saga.signals(connection, call.site.schema, saga_id)
    before = [one.payload for one in told if one.name == name and one.key == call.key]
    if before and _canonical(before[0]) != _canonical(call.body):
        raise ProblemError(
            "key-conflict",
            f"the signal {name!r} was told with the key {call.key!r} and another payload: use a "
            "new key, or send the same payload",
        )


def _canonical(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)

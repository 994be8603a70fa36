"""``POST /api/sagas/{type}``: starts a saga."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg import AsyncConnection
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from outbox.client import Started
from outbox.web.api.operation import Answer, AnyJson, Operation
from outbox.web.api.problem import ProblemError
from outbox.web.api.request import ApiRequest
from outbox.web.api.schema import InputSchemas
from outbox.web.api.shown import StartedSaga, json_answer, links_of
from outbox.web.api.values import Instant

STARTED = Answer(
    "The saga is started, or was before: then nothing was started, and the header "
    "`Idempotent-Replayed` is there.",
    StartedSaga,
    {"Location": "the saga's address", "Idempotent-Replayed": "true: it was there before"},
)
PATH = "/api/sagas/{id_or_type}"


class StartQuery(BaseModel):
    """When and how urgently; not part of what the key stands for."""

    model_config = ConfigDict(extra="forbid")

    due_at: Instant | None = Field(None, description="not to be run before this instant (RFC 3339)")
    delay: float | None = Field(
        None,
        ge=0,
        le=366 * 86400,
        description="not to be run for so many seconds; with due_at, the later counts",
    )
    priority: int = Field(
        0, ge=0, le=1_000_000,
        description="0 is the lowest; each point counts as a minute of having waited",
    )  # fmt: skip


class Starting:
    """Starts sagas.

    Args:
        inputs: knows what inputs have to be.
    """

    def __init__(self, inputs: InputSchemas) -> None:
        self._inputs = inputs

    def operation(self) -> Operation:
        """Its route."""
        return Operation(
            "POST",
            PATH,
            self.start,
            "starter",
            "Start a saga",
            {202: STARTED},
            description=(
                "The body is the input. The key names the business transaction, among all sagas of "
                "the type: the same key with the same input is the same saga, however often and "
                "from wherever it is sent; with another input it is refused (422)."
            ),
            path_parameters={"id_or_type": "the type of the saga"},
            query=StartQuery,
            body=AnyJson({"type": "object"}),
            key="required",
            problems=(404, 422),
        )

    async def start(self, call: ApiRequest) -> Response:
        """Starts one, or finds it."""
        if not isinstance(call.body, dict):
            raise ProblemError("malformed", 'the input is a JSON object, such as {"amount": 1}')
        type_ = call.path("id_or_type")
        query: StartQuery = call.query
        async with call.writing() as connection:
            await self._inputs.check(connection, type_, call.body)
            started = await call.site.client.start(
                connection,
                type_,
                call.body,
                key=call.key,
                due_at=_due_at(query),
                priority=query.priority,
            )
            return await started_answer(call, connection, type_, started)


async def started_answer(
    call: ApiRequest, connection: AsyncConnection[Any], type: str, started: Started
) -> Response:
    """The answer that tells of a saga which was started, or was there; of a type that is asked for
    where it is ""."""
    status = "CREATED"
    if not started.created or not type:
        seen = await call.site.client.status(connection, started.id)
        status, type = seen.status, seen.type
    links = links_of(call.root, started.id)
    said = StartedSaga(
        id=started.id,
        type=type,
        key=started.key,
        status=status,
        created=started.created,
        links=links,
    )
    replayed = {} if started.created else {"Idempotent-Replayed": "true"}
    return json_answer(said, 202, {"Location": links.saga, **replayed})


def _due_at(query: StartQuery) -> datetime | None:
    """The later of the two."""
    delay = None if query.delay is None else datetime.now(UTC) + timedelta(seconds=query.delay)
    return max((one for one in (query.due_at, delay) if one is not None), default=None)

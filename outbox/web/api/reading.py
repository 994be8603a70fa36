"""``GET /api/sagas``: sagas are found, and told of."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.responses import Response

from outbox.durations import duration_of
from outbox.errors import NotFoundError
from outbox.viewer import saga, sagas
from outbox.viewer.sagas import SagaFilter
from outbox.web.api.cursor import read_cursor, write_cursor
from outbox.web.api.operation import Answer, Operation
from outbox.web.api.request import ApiRequest
from outbox.web.api.shown import (
    SagaList,
    ShownSaga,
    Timeline,
    json_answer,
    listed,
    moments_of,
    shown,
)
from outbox.web.api.starting import PATH
from outbox.web.api.values import Duration, Seq, Status, Text, Whole

_LONGEST = timedelta(days=36525)  # Postgres has no instant that is much older


class ListQuery(BaseModel):
    """What is asked for; what is left out is not."""

    model_config = ConfigDict(extra="forbid")

    type: Text | None = Field(None, description="exact")
    status: list[Status] = Field(
        default_factory=list, description="any of them; say it several times"
    )
    state: Text | None = Field(None, description="of the domain, COMPLETED, FAILED or CANCELLED")
    step: Text | None = Field(None, description="where it is, or where it failed")
    error: Text | None = Field(None, description="the type of the error that it failed with or met")
    key: Text | None = Field(None, description="the whole key")
    key_prefix: Text | None = Field(None, description="how the key begins")
    older_than: Duration | None = Field(
        None, description="started longer ago than this: 90s, 5m, 2h, 1d, 4w, 1h30m"
    )
    younger_than: Duration | None = Field(None, description="started since then")
    limit: Whole = Field(50, ge=1, le=1000, description="how many at most")
    cursor: Annotated[str, StringConstraints(min_length=1, max_length=100)] | None = Field(
        None, description="a place in the list, from `next`"
    )


class TimelineQuery(BaseModel):
    """Which part of the history."""

    model_config = ConfigDict(extra="forbid")

    after: Seq | None = Field(None, description="only what came after this seq")


def operations() -> list[Operation]:
    """The routes."""
    return [
        Operation(
            "GET",
            "/api/sagas",
            list_sagas,
            "viewer",
            "Find sagas",
            {
                200: Answer(
                    "A page, the newest first.",
                    SagaList,
                    {"Link": "the next page, where there is one (RFC 8288)"},
                )
            },
            description="Quick among millions: a page is read by an index, from its cursor on.",
            query=ListQuery,
        ),
        Operation(
            "GET",
            PATH,
            get_saga,
            "viewer",
            "One saga",
            {
                200: Answer(
                    "Where it stands.",
                    ShownSaga,
                    {"ETag": "of a living saga: its seq, for `If-Match` of an act"},
                )
            },
            path_parameters={"id_or_type": "the id of the saga"},
            problems=(404,),
        ),
        Operation(
            "GET",
            "/api/sagas/{id}/timeline",
            get_timeline,
            "viewer",
            "The history of a saga",
            {200: Answer("Every transition, in order.", Timeline)},
            path_parameters={"id": "the id of the saga"},
            query=TimelineQuery,
            problems=(404,),
        ),
    ]


async def list_sagas(call: ApiRequest) -> Response:
    """A page of sagas."""
    query: ListQuery = call.query
    asked = query.model_dump(exclude={"cursor", "limit"}, exclude_defaults=True)
    named = urlencode(sorted(asked.items()), doseq=True)
    before = None if query.cursor is None else read_cursor(query.cursor, named)
    given = SagaFilter(
        type=query.type,
        statuses=tuple(sorted(set(query.status))),
        state=query.state,
        step=query.step,
        error=query.error,
        key=query.key,
        key_prefix=query.key_prefix,
        older_than=_span(query.older_than),
        younger_than=_span(query.younger_than),
    )
    async with call.site.reading() as connection:
        page = await sagas.find_sagas(connection, call.site.schema, given, before, query.limit)
    further, headers = None, {}
    if page.next is not None:
        rest = {**asked, "limit": query.limit, "cursor": write_cursor(page.next, named)}
        further = f"{call.root}/api/sagas?{urlencode(rest, doseq=True)}"
        headers["Link"] = f'<{further}>; rel="next"'
    masking = call.masking
    rows = [listed(row, call.root, masking) for row in page.rows]
    return json_answer(
        SagaList(sagas=rows, next=further, searched_to=page.searched_to), headers=headers
    )


async def get_saga(call: ApiRequest) -> Response:
    """One saga."""
    saga_id = call.saga_id("id_or_type")
    async with call.site.reading() as connection:
        seen = await saga.overview(connection, call.site.schema, saga_id)
    tag = {} if seen.seq is None else {"ETag": f'"{seen.seq}"'}
    return json_answer(shown(seen, call.root, call.masking), headers=tag)


async def get_timeline(call: ApiRequest) -> Response:
    """Its history."""
    saga_id, query = call.saga_id(), call.query
    after = -1 if query.after is None else query.after
    async with call.site.reading() as connection:
        history = await saga.timeline(connection, call.site.schema, saga_id, after)
        if not history and not await sagas.rows_of(connection, call.site.schema, [saga_id]):
            raise NotFoundError(f"no saga has the id {saga_id}")
    masking = call.masking
    return json_answer(Timeline(id=saga_id, moments=moments_of(history, masking)))


def _span(text: str | None) -> timedelta | None:
    if text is None:
        return None
    return min(duration_of(text), _LONGEST)

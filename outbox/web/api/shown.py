"""What the API tells of sagas: the forms of its JSON, secrets masked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import orjson
from pydantic import BaseModel, Field, RootModel
from starlette.responses import Response

from outbox.viewer.saga import Moment, Overview
from outbox.viewer.sagas import SagaRow
from outbox.web.mask import Masking

M = TypeVar("M", bound="_Standing")


class JsonValue(RootModel[Any]):
    """Any JSON."""


class Links(BaseModel):
    """Addresses on this server."""

    saga: str
    timeline: str
    events: str


class StartedSaga(BaseModel):
    """A saga that was started, now or before."""

    id: UUID
    type: str
    key: str
    status: str
    created: bool = Field(description="false: it was there before; nothing was started")
    links: Links


class _Standing(BaseModel):
    id: UUID
    type: str
    version: int
    key: str
    status: str = Field(
        description="CREATED, EXECUTING, COMPENSATING, SUSPENDED, COMPLETED or FAILED"
    )
    state: str = Field(description="of the domain, as its steps name it")
    step: str | None = Field(description="of a living saga: where it is")
    kind: str | None = Field(description="action, compensation, reconcile, or what else it does")
    attempts: int | None = Field(description="of the step, so far")
    seq: int | None = Field(description="counts the transitions; acts can name the one they saw")
    reason: str | None = Field(description="why it is suspended")
    paused: bool
    due_at: datetime | None
    moved_at: datetime | None
    created_at: datetime
    ended_at: datetime | None
    error: Any = Field(description="what it failed with; secrets masked")
    links: Links


class ListedSaga(_Standing):
    """A saga in a list."""


class ShownSaga(_Standing):
    """Where a saga stands."""

    deadline: datetime | None
    input: Any = Field(description="secrets masked")
    output: Any = Field(description="secrets masked")


class SagaList(BaseModel):
    """A page of sagas, the newest first."""

    sagas: list[ListedSaga]
    next: str | None = Field(
        description="the address of the next page; null: this is the last. A page may be short, "
        "even empty, and still have a next one"
    )
    searched_to: datetime | None = Field(
        description="how far back it looked, where there is a next page"
    )


class ShownMoment(BaseModel):
    """A transition of a saga, or its start."""

    seq: int
    at: datetime
    what: str = Field(description="in words")
    step: str | None
    element: int | None = Field(description="the place in a fan-out")
    kind: str | None
    attempt: int | None
    outcome: str
    from_status: str | None
    to_status: str
    state: str | None
    took: float | None = Field(description="how long the attempt ran, in seconds")
    next_due: datetime | None
    result: Any = Field(description="of the step; secrets masked")
    error: Any = Field(description="secrets masked")


class Timeline(BaseModel):
    """A saga's history, in order."""

    id: UUID
    moments: list[ShownMoment]


def links_of(root: str, saga_id: UUID) -> Links:
    """The addresses of a saga."""
    saga = f"{root}/api/sagas/{saga_id}"
    return Links(saga=saga, timeline=f"{saga}/timeline", events=f"{saga}/events")


def listed(row: SagaRow, root: str, masking: Masking) -> ListedSaga:
    """A saga in a list."""
    return _standing(ListedSaga, row, root, masking)


def shown(seen: Overview, root: str, masking: Masking) -> ShownSaga:
    """A saga whole."""
    return _standing(
        ShownSaga,
        seen,
        root,
        masking,
        deadline=seen.deadline,
        input=masking.mask(seen.input),
        output=masking.mask(seen.output),
    )


def moments_of(history: Sequence[Moment], masking: Masking) -> list[ShownMoment]:
    """Transitions."""
    return [
        ShownMoment(
            seq=one.seq,
            at=one.at,
            what=masking.mask_text(one.what),
            step=one.step,
            element=one.element,
            kind=one.kind,
            attempt=one.attempt,
            outcome=one.outcome,
            from_status=one.from_status,
            to_status=one.to_status,
            state=one.state,
            took=_seconds(one.took),
            next_due=one.next_due,
            result=masking.mask(one.result),
            error=masking.mask(one.error_detail),
        )
        for one in history
    ]


def json_answer(
    value: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer in JSON."""
    return Response(as_json(value), status, headers, "application/json")


def as_json(value: BaseModel) -> bytes:
    """A model as JSON text."""
    try:
        return orjson.dumps(value.model_dump(by_alias=True), default=str, option=orjson.OPT_UTC_Z)
    except TypeError:
        # An input nested as deep as may be stored is deeper here than orjson goes.
        return json.dumps(value.model_dump(by_alias=True, mode="json"), ensure_ascii=False).encode()


def _standing(
    model: type[M], seen: SagaRow | Overview, root: str, masking: Masking, **more: Any
) -> M:
    return model(
        id=seen.saga_id,
        type=seen.type,
        version=seen.version,
        key=seen.key,
        status=seen.status,
        state=seen.state,
        step=seen.step,
        kind=seen.kind,
        attempts=seen.attempts,
        seq=seen.seq,
        reason=None if seen.reason is None else masking.mask_text(seen.reason),
        paused=bool(seen.paused),
        due_at=seen.due_at,
        moved_at=seen.moved_at,
        created_at=seen.created_at,
        ended_at=seen.ended_at,
        error=masking.mask(seen.error),
        links=links_of(root, seen.saga_id),
        **more,
    )


def _seconds(duration: timedelta | None) -> float | None:
    return None if duration is None else duration.total_seconds()

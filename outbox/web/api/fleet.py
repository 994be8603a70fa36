"""What holds for many: whole types, deliveries, what people did before, and what is wrong."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from outbox.errors import NotFoundError
from outbox.viewer import fleet, interventions
from outbox.web.api.bulk import ActedMany, told_of
from outbox.web.api.operation import Answer, Operation
from outbox.web.api.request import ApiRequest
from outbox.web.api.shown import json_answer
from outbox.web.api.values import Note, Text, Whole

_GREATEST_VERSION = 2_000_000_000


class NoteBody(BaseModel):
    """Why."""

    model_config = ConfigDict(extra="forbid")

    note: Note = Field(description="why")


class MoveTypeBody(NoteBody):
    """From which version to which."""

    from_version: int = Field(ge=1, le=_GREATEST_VERSION, description="the version to leave")
    to_version: int = Field(ge=1, le=_GREATEST_VERSION, description="the version to go on in")
    limit: int = Field(1000, ge=1, le=10_000, description="at most so many, the oldest first")
    dry_run: bool = Field(False, description="say what would become of each, and change nothing")


class RedeliverBody(NoteBody):
    """Which event."""

    event: int = Field(ge=1, le=2**62, description="the event's number")


class PausedType(BaseModel):
    """What is in flight of a type that was paused, or due of one that goes on."""

    type: str
    commands: int


class Redelivered(BaseModel):
    """An event that is on its way once more."""

    subscription: str
    event: int


class Finding(BaseModel):
    """Something that is wrong, and what to do about it."""

    severity: Literal["error", "warning", "info"]
    finding: str
    subject: str | None
    detail: str
    remedy: str


class Health(BaseModel):
    """What is wrong, the worst first; nothing: all is well."""

    findings: list[Finding]


class ResolutionQuery(BaseModel):
    """Which of them."""

    model_config = ConfigDict(extra="forbid")

    step: Text | None = Field(None, description="at this step")
    error: Text | None = Field(None, description="after an error of this type")
    words: Text | None = Field(None, description="in the note, the reason or the error")
    limit: Whole = Field(50, ge=1, le=1000, description="how many at most")


class Resolution(BaseModel):
    """What a person did about a suspended saga, and what it led to."""

    id: UUID
    type: str
    key: str
    step: str
    reason: str | None
    error: Any = Field(description="secrets masked")
    act: str
    actor: str
    note: str
    at: datetime
    led_to: str
    status: str = Field(description="the saga's now")


class Resolutions(BaseModel):
    """The latest first."""

    resolutions: list[Resolution]


def operations() -> list[Operation]:
    """The routes."""
    named = {"type": "the saga type"}
    return [
        Operation(
            "POST", "/api/types/{type}/pause", pause_type, "operator",
            "Begin nothing more of a type",
            {200: Answer("How many commands are in flight, which finish.", PausedType)},
            tag="types", path_parameters=named, body=NoteBody, problems=(404, 409),
        ),
        Operation(
            "POST", "/api/types/{type}/resume", resume_type, "operator", "Let a type go on",
            {200: Answer("How many commands are due.", PausedType)},
            tag="types", path_parameters=named, body=NoteBody, problems=(404, 409),
        ),
        Operation(
            "POST", "/api/types/{type}/move", move_type, "operator",
            "Have the living sagas of a version go on in another one",
            {200: Answer("What became of each: one that does not fit stops no other.", ActedMany)},
            tag="types", path_parameters=named, body=MoveTypeBody, problems=(404, 409),
        ),
        Operation(
            "POST", "/api/subscriptions/{name}/redeliver", redeliver, "operator",
            "Deliver an event once more", {200: Answer("It is on its way.", Redelivered)},
            tag="fleet", path_parameters={"name": "the subscription"}, body=RedeliverBody,
            problems=(404, 409),
        ),
        Operation(
            "GET", "/api/resolutions", list_resolutions, "viewer",
            "What people did about suspended sagas before",
            {200: Answer("The latest first.", Resolutions)}, tag="fleet", query=ResolutionQuery,
        ),
        Operation(
            "GET", "/api/health", get_health, "viewer", "What is wrong, and what to do about it",
            {200: Answer("The worst first; none: all is well.", Health)}, tag="fleet",
        ),
    ]  # fmt: skip


async def pause_type(call: ApiRequest) -> Response:
    """Pauses a type."""
    type_ = await _known_type(call)
    async with call.writing() as connection:
        count = await call.site.operator.pause(connection, call.body.note, type_)
    call.tell_act("pause", type=type_)
    return json_answer(PausedType(type=type_, commands=count))


async def resume_type(call: ApiRequest) -> Response:
    """Lets a type go on."""
    type_ = await _known_type(call)
    async with call.writing() as connection:
        count = await call.site.operator.resume(connection, call.body.note, type_)
    call.tell_act("resume", type=type_)
    return json_answer(PausedType(type=type_, commands=count))


async def move_type(call: ApiRequest) -> Response:
    """Moves the sagas of a version."""
    type_, body = call.path("type"), call.body
    async with call.writing() as connection:
        rows = await call.site.operator.move_many(
            connection,
            type_,
            body.from_version,
            body.to_version,
            body.note,
            dry_run=body.dry_run,
            limit=body.limit,
        )
    if not body.dry_run:
        call.tell_act("move", type=type_, sagas=sum(row.problem is None for row in rows))
    return json_answer(told_of("move", body.dry_run, rows))


async def redeliver(call: ApiRequest) -> Response:
    """Delivers an event once more."""
    name, event = call.path("name"), call.body.event
    async with call.writing() as connection:
        await call.site.operator.redeliver(connection, name, event, call.body.note)
    call.tell_act("redeliver", subscription=name, event_number=event)
    return json_answer(Redelivered(subscription=name, event=event))


async def list_resolutions(call: ApiRequest) -> Response:
    """What people did before."""
    query: ResolutionQuery = call.query
    async with call.site.reading() as connection:
        found = await interventions.past_resolutions(
            connection,
            call.site.schema,
            step=query.step,
            error=query.error,
            words=query.words,
            limit=query.limit,
        )
    masking = call.masking
    told = [
        Resolution(
            id=one.saga_id,
            type=one.type,
            key=one.key,
            step=one.step,
            reason=None if one.reason is None else masking.mask_text(one.reason),
            error=masking.mask(one.error),
            act=one.act,
            actor=one.actor,
            note=masking.mask_text(one.note),
            at=one.at,
            led_to=one.led_to,
            status=one.status,
        )
        for one in found
    ]
    return json_answer(Resolutions(resolutions=told))


async def get_health(call: ApiRequest) -> Response:
    """What is wrong."""
    async with call.site.reading() as connection:
        found = await fleet.health(connection, call.site.schema)
    told = [
        Finding(
            severity=one.severity,
            finding=one.finding,
            subject=one.subject,
            detail=call.masking.mask_text(one.detail),
            remedy=one.remedy,
        )
        for one in found
    ]
    return json_answer(Health(findings=told))


async def _known_type(call: ApiRequest) -> str:
    type_ = call.path("type")
    async with call.site.reading() as connection:
        if not await fleet.definitions(connection, call.site.schema, type_):
            raise NotFoundError(f"no saga type {type_[:100]!r} is registered")
    return type_

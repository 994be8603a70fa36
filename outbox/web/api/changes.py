"""Who changed what holds for many sagas: ``GET /api/changes``."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from outbox.viewer.changes import Rule, RuleAct, rule_changes
from outbox.web.api.operation import Answer, Operation
from outbox.web.api.request import ApiRequest
from outbox.web.api.shown import json_answer
from outbox.web.api.values import Text, Whole


class ChangeQuery(BaseModel):
    """Which of them."""

    model_config = ConfigDict(extra="forbid")

    rule: Rule | None = Field(None, description="of limits, of schedules and so on")
    type: Text | None = Field(None, description="of what is about this saga type")
    limit: Whole = Field(50, ge=1, le=1000, description="how many at most")


class Change(BaseModel):
    """That somebody changed a limit, a schedule, a retention or a subscription."""

    number: int
    at: datetime
    rule: Rule
    act: RuleAct
    type: str | None = Field(description="the saga type that it is about")
    name: str | None = Field(description="the limit's, schedule's or subscription's")
    actor: str
    note: str | None
    before: Any = Field(description="null: there was none; secrets masked")
    after: Any = Field(description="null: there is none any more; secrets masked")


class Changes(BaseModel):
    """The latest first."""

    changes: list[Change]


def operations() -> list[Operation]:
    """The route."""
    return [
        Operation(
            "GET", "/api/changes", list_changes, "viewer",
            "Who changed limits, schedules, retentions and subscriptions, and why",
            {200: Answer("The latest first.", Changes)}, tag="fleet", query=ChangeQuery,
        ),
    ]  # fmt: skip


async def list_changes(call: ApiRequest) -> Response:
    """Who changed what."""
    query: ChangeQuery = call.query
    async with call.site.reading() as connection:
        found = await rule_changes(
            connection, call.site.schema, rule=query.rule, type=query.type, limit=query.limit
        )
    masking = call.masking
    told = [
        Change(
            number=one.number,
            at=one.at,
            rule=one.rule,
            act=one.act,
            type=one.type,
            name=one.name,
            actor=one.actor,
            note=None if one.note is None else masking.mask_text(one.note),
            before=masking.mask(one.before),
            after=masking.mask(one.after),
        )
        for one in found
    ]
    return json_answer(Changes(changes=told))

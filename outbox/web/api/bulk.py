"""``POST /api/acts/{act}``: acts on many sagas at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from outbox.durations import duration_of
from outbox.operator import Acted, ManyAct
from outbox.web.api.operation import Answer, Operation
from outbox.web.api.request import ApiRequest
from outbox.web.api.shown import json_answer
from outbox.web.api.values import Duration, Note, Status, Text

_FILTERS = ("type", "step", "error", "older_than", "status")


class ManyBody(BaseModel):
    """Which sagas, and why. Of retry, skip and resolve they are suspended unless `status` says
    otherwise."""

    model_config = ConfigDict(extra="forbid")

    note: Note = Field(description="why; it is kept in the history of each")
    type: Text | None = Field(None, description="only sagas of this type")
    step: Text | None = Field(None, description="only those that are at this step")
    error: Text | None = Field(None, description="only those whose step met this type of error")
    older_than: Duration | None = Field(
        None, description="only those that have not moved for so long: 90s, 5m, 2h, 1d"
    )
    status: Status | None = Field(None, description="only those with this status")
    limit: int = Field(1000, ge=1, le=10_000, description="at most so many, the oldest first")
    dry_run: bool = Field(False, description="say what would become of each, and change nothing")

    def arguments(self) -> dict[str, Any]:
        """What the act is told beside the filter."""
        return {}


class NamedBody(ManyBody):
    """As above, and which: not all of them."""

    # The database refuses it; this says so beforehand.
    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": [name], "properties": {name: {"type": "string"}}} for name in _FILTERS
            ]
        }
    )


class CancelManyBody(NamedBody):
    """Of a cancel."""

    force: bool = Field(False, description="past their pivot too")

    def arguments(self) -> dict[str, Any]:
        """Whether past the pivot."""
        return {"force": self.force}


class SkipManyBody(ManyBody):
    """Of a skip."""

    result: Any = Field(None, description="what later steps see as the step's result")

    def arguments(self) -> dict[str, Any]:
        """The result, if there is one."""
        return {} if self.result is None else {"result": self.result}


class ResolveManyBody(ManyBody):
    """Of a resolve."""

    resolve_as: Literal["COMPLETED", "FAILED"] = Field(description="how they were settled by hand")

    def arguments(self) -> dict[str, Any]:
        """The status."""
        return {"status": self.resolve_as}


class ActedOne(BaseModel):
    """What became of one of them."""

    id: UUID
    key: str
    step: str
    outcome: str | None = Field(description="the status that the act led to")
    problem: str | None = Field(description="why it did not apply: nothing of it was changed")


class ActedMany(BaseModel):
    """What became of each."""

    act: str
    dry_run: bool
    sagas: list[ActedOne]


_ACTS: dict[str, tuple[ManyAct, type[ManyBody], str]] = {
    "retry": ("retry", ManyBody, "Run what failed of many again"),
    "skip": ("skip", SkipManyBody, "Take the steps of many as done"),
    "cancel": ("cancel", CancelManyBody, "Undo many, unless past their pivot"),
    "abort": ("abort", NamedBody, "Undo many, past their pivot too"),
    "resolve": ("resolve", ResolveManyBody, "Close many, as settled by hand"),
    "pause": ("pause_saga", NamedBody, "Begin nothing more of many"),
    "resume": ("resume_saga", ManyBody, "Let many go on"),
}


def operations() -> list[Operation]:
    """The routes."""
    many = {200: Answer("What became of each: one that fails stops no other.", ActedMany)}
    return [
        *(
            Operation(
                "POST", f"/api/acts/{name}", _Many(name, act), "operator", summary, many,
                tag="acts on many", body=body,
            )
            for name, (act, body, summary) in _ACTS.items()
        ),
    ]  # fmt: skip


class _Many:
    """Does an act to all that a filter finds."""

    def __init__(self, name: str, act: ManyAct) -> None:
        self._name, self._act = name, act

    async def __call__(self, call: ApiRequest) -> Response:
        body: ManyBody = call.body
        older = None if body.older_than is None else duration_of(body.older_than)
        async with call.writing() as connection:
            rows = await call.site.operator.act_many(
                connection,
                self._act,
                body.note,
                type=body.type,
                step=body.step,
                error=body.error,
                older_than=older,
                status=body.status,
                limit=body.limit,
                dry_run=body.dry_run,
                arguments=body.arguments(),
            )
        if not body.dry_run:
            done = sum(row.problem is None for row in rows)
            call.tell_act(self._name, sagas=done)
        return json_answer(told_of(self._name, body.dry_run, rows))


def told_of(act: str, dry_run: bool, rows: Sequence[Acted]) -> ActedMany:
    """What became of each."""
    sagas = [
        ActedOne(
            id=row.saga_id, key=row.key, step=row.step, outcome=row.outcome, problem=row.problem
        )
        for row in rows
    ]
    return ActedMany(act=act, dry_run=dry_run, sagas=sagas)

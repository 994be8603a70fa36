"""What operator acts are told, and what they answer: the forms of their JSON."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from outbox.web.api.shown import Links
from outbox.web.api.values import Note, Text


class ActBody(BaseModel):
    """What every act is told."""

    model_config = ConfigDict(extra="forbid")

    note: Note = Field(description="why; it is kept in the history")
    seq: int | None = Field(
        None, ge=0, le=2_000_000_000,
        description="the seq at which you saw the saga: if it has moved on, nothing is done",
    )  # fmt: skip
    dry_run: bool = Field(False, description="say what would become of it, and change nothing")


class CancelBody(ActBody):
    """Of a cancel."""

    force: bool = Field(False, description="past the pivot too")


class ResolveBody(ActBody):
    """Of a resolve."""

    status: Literal["COMPLETED", "FAILED"] = Field(description="how it was settled by hand")


class SkipBody(ActBody):
    """Of a skip."""

    result: Any = Field(None, description="what later steps see as the step's result")
    step: Text | None = Field(
        None, description='which, where there are several; of an element "step/place"'
    )


class AmendBody(ActBody):
    """Of an amend: the input, or a step with its result."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["input"], "properties": {"input": {"type": "object"}}},
                {"required": ["step"], "properties": {"step": {"type": "string"}}},
            ]
        }
    )

    input: dict[str, Any] | None = Field(
        None, description="the whole new input; a masked value that is sent as it was shown stays"
    )
    step: Text | None = Field(None, description="the step whose result is amended")
    result: Any = Field(None, description="its new result")


class RerunBody(ActBody):
    """Of a rerun."""

    key: Text | None = Field(
        None,
        description="the new saga's key, so that a rerun that is sent twice starts one; default "
        "the Idempotency-Key, or <old key>/rerun/<number>",
    )
    newest: bool = Field(False, description="in the newest version of its type")


class MoveBody(ActBody):
    """Of a move."""

    version: int = Field(ge=1, le=2_000_000_000, description="the version to go on in")


class Undone(BaseModel):
    """What an abort or a cancel comes to for one command."""

    what: str = Field(description="finishes (it runs now, and ends first), undo, or stays")
    step: str
    element: int | None
    in_doubt: bool
    why: str | None


class Acted(BaseModel):
    """What an act led to."""

    id: UUID
    act: str
    status: str = Field(description="the saga's after it")
    dry_run: bool = Field(description="true: nothing was changed")
    undoing: list[Undone] | None = Field(
        description="of the dry run of an abort or a cancel: what it would undo, in order"
    )
    links: Links

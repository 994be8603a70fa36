"""What a route of the API is, as data: it is served by this, and described by it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel
from starlette.responses import Response

from outbox.web.api.request import ApiRequest
from outbox.web.api.tokens import ApiRole

Handler = Callable[[ApiRequest], Awaitable[Response]]
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


@dataclass(frozen=True, slots=True)
class AnyJson:
    """A body that may be any JSON.

    Args:
        schema: its JSON schema.
        required: whether it has to be there.
    """

    schema: Mapping[str, Any]
    required: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is no problem.

    Args:
        description: in words.
        model: of its JSON; None: it has no body, or another media type.
        headers: names and descriptions.
        media_type: of the body.
    """

    description: str
    model: type[BaseModel] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one address.

    Args:
        method: of HTTP.
        path: with parameters in braces.
        handler: answers.
        role: of the tokens that may use it; None: no token is needed.
        summary: a line.
        answers: by status.
        tag: what it stands with in the description.
        description: more than a line; Markdown.
        path_parameters: the description of each parameter of the path.
        query: a model of the query; None: there is none.
        body: a model of the body; None: there is none.
        key: whether it takes ``Idempotency-Key``.
        seq_header: whether it takes ``If-Match``.
        last_event: whether it takes ``Last-Event-ID``.
        problems: statuses of its problems, beside those that all have.
    """

    method: Method
    path: str
    handler: Handler
    role: ApiRole | None
    summary: str
    answers: Mapping[int, Answer]
    tag: str = "sagas"
    description: str = ""
    path_parameters: Mapping[str, str] = field(default_factory=dict)
    query: type[BaseModel] | None = None
    body: type[BaseModel] | AnyJson | None = None
    key: Literal["required", "optional"] | None = None
    seq_header: bool = False
    last_event: bool = False
    problems: tuple[int, ...] = ()

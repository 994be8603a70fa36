"""``GET /api/openapi.json``: the API as OpenAPI 3.1 has it, made of the very operations that are
served."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.responses import Response

from outbox.viewer import fleet
from outbox.web.api.operation import Answer, AnyJson, Operation
from outbox.web.api.parameters import parameters_of
from outbox.web.api.problem import KINDS, MEDIA_TYPE
from outbox.web.api.request import ApiRequest
from outbox.web.api.shown import JsonValue
from outbox.web.api.starting import PATH

_REF = "#/components/schemas/{model}"
_TEXT = {"type": "string"}
References = Mapping[Any, dict[str, Any]]
_HEADERS = {"Retry-After": "seconds to wait", "WWW-Authenticate": "how to say who you are"}
_OF_STATUS = {401: "WWW-Authenticate", 403: "WWW-Authenticate", 429: "Retry-After",
              503: "Retry-After"}  # fmt: skip

Problem: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457",
    "required": ["type", "title", "status", "detail", "instance"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference", "description": "leads to its kind"},
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "what is wrong this time, and what to do"},
        "instance": {"type": "string", "format": "uri-reference"},
        "errors": {
            "type": "array",
            "description": "of a refused input: each field, by its JSON pointer",
            "items": {
                "type": "object",
                "required": ["pointer", "detail"],
                "properties": {"pointer": _TEXT, "detail": _TEXT},
            },
        },
        "since": {
            "type": "array",
            "description": "of a refused act: what happened after the seq that was sent",
            "items": {"$ref": "#/components/schemas/ShownMoment"},
        },
    },
}


class Description:
    """Serves the description.

    Args:
        operations: asks for all operations that are served.
    """

    def __init__(self, operations: Callable[[], Sequence[Operation]]) -> None:
        self._operations = operations

    def operation(self) -> Operation:
        """Its route."""
        return Operation(
            "GET",
            "/api/openapi.json",
            self.serve,
            "viewer",
            "This description",
            {200: Answer("OpenAPI 3.1, with the inputs of the registered types.", JsonValue)},
            tag="about",
        )

    async def serve(self, call: ApiRequest) -> Response:
        """The description, with the types that are registered now."""
        async with call.site.reading() as connection:
            known = await fleet.input_schemas(connection, call.site.schema)
        found = describe(self._operations(), known, call.root)
        return Response(orjson.dumps(found), media_type="application/json")


def describe(
    operations: Sequence[Operation], inputs: dict[str, dict[str, Any]], root: str = ""
) -> dict[str, Any]:
    """The description.

    Args:
        operations: those that are served.
        inputs: the JSON schema of the input of each saga type.
        root: the path under which everything is served.
    """
    references, schemas = _schemas(operations)
    schemas["Problem"] = Problem
    paths: dict[str, Any] = {}
    for one in operations:
        paths.setdefault(one.path, {})[one.method.lower()] = _described(one, references)
        if one.path == PATH and one.method == "POST":
            for type_, schema in sorted(inputs.items()):
                place = f"#/components/schemas/input.{type_}"
                schemas[f"input.{type_}"] = _rooted(schema, place)
                starts = _of_type(_described(one, references), type_, place)
                paths[PATH.replace("{id_or_type}", type_)] = {"post": starts}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "outbox",
            "version": "1",
            "description": "Sagas on Postgres: start them, find them, follow them, steer them. "
            "Secrets in inputs, results and errors are masked by the names of their fields.",
        },
        **({"servers": [{"url": root}]} if root else {}),
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`bin/web new-token` makes one: a viewer's reads, a starter's "
                    "starts and signals too, an operator's acts as well",
                }
            },
        },
    }


def _schemas(operations: Sequence[Operation]) -> tuple[References, dict[str, Any]]:
    """Where the schema of each model stands, whose name may be that of another, and the schemas."""
    bodies = {one.body for one in operations if isinstance(one.body, type)}
    answers = {a.model for one in operations for a in one.answers.values() if a.model is not None}
    pairs: list[tuple[type[BaseModel], Any]] = [
        *((model, "validation") for model in sorted(bodies, key=repr)),
        *((model, "serialization") for model in sorted(answers, key=repr)),
    ]
    references, found = models_json_schema(pairs, ref_template=_REF)
    return {model: reference for (model, _), reference in references.items()}, found["$defs"]


def _described(one: Operation, references: References) -> dict[str, Any]:
    said: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{one.method.lower()}{one.path}").strip("_"),
        "tags": [one.tag],
        "summary": one.summary,
        "parameters": parameters_of(one),
        "responses": {
            **{str(status): _answer(answer, references) for status, answer in one.answers.items()},
            **{str(status): _problem(status) for status in _statuses(one)},
        },
    }
    if one.role is None:
        said["security"] = []
    else:
        said["description"] = f"{one.description}\n\nNeeds the role {one.role}.".strip()
    if one.body is not None:
        schema: Any = (
            dict(one.body.schema) if isinstance(one.body, AnyJson) else references[one.body]
        )
        required = not isinstance(one.body, AnyJson) or one.body.required
        said["requestBody"] = {
            "required": required, "content": {"application/json": {"schema": schema}},
        }  # fmt: skip
    return said


def _of_type(said: dict[str, Any], type_: str, schema: str) -> dict[str, Any]:
    """Starting a saga of one type."""
    parameters = [one for one in said["parameters"] if one["in"] != "path"]
    return {
        **said,
        "operationId": f"start_{type_}",
        "summary": f"Start a saga of type {type_}",
        "parameters": parameters,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": schema}}},
        },
    }


def _statuses(one: Operation) -> list[int]:
    """The statuses of the problems that an operation can end in."""
    found = {400, 500, 503, *one.problems}
    if one.role is not None:
        found |= {401, 403, 429}
    if one.body is not None:
        found |= {408, 413, 415}
    return sorted(found)


def _answer(answer: Answer, references: References) -> dict[str, Any]:
    said: dict[str, Any] = {"description": answer.description}
    if answer.headers:
        said["headers"] = {
            name: {"description": text, "schema": _TEXT} for name, text in answer.headers.items()
        }
    if answer.model is not None:
        schema: Any = references[answer.model]
        said["content"] = {answer.media_type: {"schema": schema}}
    elif answer.media_type == "text/event-stream":
        said["content"] = {answer.media_type: {}}  # OpenAPI 3.1 cannot tell of single events
    elif answer.media_type != "application/json":
        said["content"] = {answer.media_type: {"schema": _TEXT}}
    return said


def _problem(status: int) -> dict[str, Any]:
    kinds = [kind for kind in KINDS.values() if kind.status == status]
    said: dict[str, Any] = {
        "description": "; ".join(f"`{kind.slug}`: {kind.title}" for kind in kinds),
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if (header := _OF_STATUS.get(status)) is not None:
        said["headers"] = {header: {"description": _HEADERS[header], "schema": _TEXT}}
    return said


def _rooted(schema: dict[str, Any], place: str) -> dict[str, Any]:
    """A schema whose references to itself hold at another place of a document."""
    text = json.dumps(schema)
    moved: dict[str, Any] = json.loads(
        re.sub(r'"\$ref": "#(/[^"]*)?"', lambda m: f'"$ref": "{place}{m[1] or ""}"', text)
    )
    return moved

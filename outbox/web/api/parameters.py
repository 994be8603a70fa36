"""The parameters of an operation, as OpenAPI has them."""

from __future__ import annotations

from typing import Any

from outbox.web.api.operation import Operation

_UUID = {"type": "string", "format": "uuid"}
_NAME = {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_.-]{0,99}$"}


def parameters_of(one: Operation) -> list[dict[str, Any]]:
    """Those of the path, the query and the headers."""
    return [*_path(one), *_query(one), *_headers(one)]


def _path(one: Operation) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": text,
            "schema": _of_path(one, name),
        }
        for name, text in one.path_parameters.items()
    ]


def _of_path(one: Operation, name: str) -> dict[str, Any]:
    if name == "id" or (name == "id_or_type" and one.method == "GET"):
        return _UUID
    if one.tag == "application":
        return {"type": "string", "minLength": 1}
    return _NAME


def _query(one: Operation) -> list[dict[str, Any]]:
    if one.query is None:
        return []
    schema = one.query.model_json_schema()
    required = schema.get("required", ())
    found = []
    for name, field in schema["properties"].items():
        text = field.pop("description", "")
        field.pop("title", None)
        found.append(
            {
                "name": name,
                "in": "query",
                "required": name in required,
                "description": text,
                "schema": _without_null(field),
            }
        )
    return found


def _headers(one: Operation) -> list[dict[str, Any]]:
    # ASCII that prints and is not quoted: a value in quotes is taken without them.
    plain: dict[str, Any] = {
        "type": "string",
        "pattern": r"^[!#-~]([ !#-~]*[!#-~])?$",
        "maxLength": 512,
    }
    seq = {"type": "string", "pattern": r'^"[0-9]{1,9}"$'}
    found: list[tuple[str, bool, dict[str, Any], str]] = []
    if one.key is not None:
        found.append(
            ("Idempotency-Key", one.key == "required", plain,
             "names what this is about: the same key counts once")
        )  # fmt: skip
    if one.seq_header:
        found.append(("If-Match", False, seq, "the seq at which you saw the saga: its ETag"))
    if one.streams:
        last = {"type": "string", "pattern": "^[0-9]{0,9}$"}
        found.append(("Last-Event-ID", False, last, "the seq that you have seen last"))
    return [
        {"name": name, "in": "header", "required": required, "description": text, "schema": schema}
        for name, required, schema, text in found
    ]


def _without_null(field: dict[str, Any]) -> dict[str, Any]:
    """The schema of a parameter, which is left out rather than null."""
    if "anyOf" in field:
        (field,) = [one for one in field["anyOf"] if one.get("type") != "null"]
    return {name: value for name, value in field.items() if value is not None}

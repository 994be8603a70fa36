"""What a request says: its key, its query and its body, each checked, or a problem."""

from __future__ import annotations

import json
import re
from typing import Any

import orjson
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import Request

from outbox.web.api.problem import ProblemError
from outbox.web.body import CutOffError, TooLargeError, TooSlowError, receive
from outbox.web.mask import Masking

_LONG = re.compile(rb"[0-9]{19}")
_SENT = re.compile(r"application/(?:[a-z0-9.+-]+\+)?json")
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')  # a String of RFC 9651


def read_key(request: Request, *, required: bool) -> str | None:
    """The header ``Idempotency-Key`` (draft-ietf-httpapi-idempotency-key-header): a String of
    RFC 9651, or the same without its quotes.

    Raises:
        ProblemError: it is missing where it is required, empty, or none.
    """
    given = request.headers.getlist("idempotency-key")
    if not given:
        if not required:
            return None
        raise ProblemError(
            "malformed",
            "the header Idempotency-Key is missing: it names this one business transaction, "
            "such as the order's number, so that it is started once however often it is sent",
        )
    if len(given) > 1:
        raise ProblemError("malformed", "the header Idempotency-Key is there twice: send one")
    try:
        key = given[0].encode("latin-1").decode().strip()
    except UnicodeDecodeError:
        raise ProblemError("malformed", "the Idempotency-Key is not UTF-8") from None
    if key.startswith('"'):
        quoted = _QUOTED.fullmatch(key)
        if quoted is None:
            raise ProblemError(
                "malformed",
                f"the Idempotency-Key {key[:80]} begins with a quote and is no string: close "
                'it, and write \\" for a quote in it',
            )
        key = re.sub(r"\\(.)", r"\1", quoted[1])
    if not 1 <= len(key) <= 512:
        raise ProblemError(
            "malformed", f"the Idempotency-Key has {len(key)} characters, 1 to 512 are allowed"
        )
    if not key.isprintable():
        raise ProblemError("malformed", "the Idempotency-Key has characters that do not print")
    return key


def read_query(request: Request, model: type[BaseModel] | None, masking: Masking) -> Any:
    """The query, as an instance of its model.

    Raises:
        ProblemError: it is none, or has parameters that are not known.
    """
    given = request.query_params.multi_items()
    fields = {} if model is None else model.model_fields
    found: dict[str, Any] = {}
    for name, value in given:
        if name not in fields:
            known = f"known are {', '.join(fields)}" if fields else "it takes none"
            raise ProblemError(
                "malformed", f"the query's parameter {name[:100]!r} is not known: {known}"
            )
        if "\0" in value:
            raise ProblemError("malformed", f"the parameter {name} has the character NUL")
        if _is_list(fields[name].annotation):
            found.setdefault(name, []).append(value)
        elif name in found:
            raise ProblemError("malformed", f"the query's parameter {name!r} is there twice")
        else:
            found[name] = value
    if model is None:
        return None
    try:
        return model.model_validate(found)
    except ValidationError as error:
        raise _refused("malformed", "the query", error, masking) from None


async def read_body(request: Request, *, required: bool, limit: int) -> bytes | None:
    """The body, which is JSON; None: there is none.

    Raises:
        ProblemError: it is missing where it is required, too large, late, or not sent as JSON.
    """
    headers = request.headers
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    if not has_body and not required:
        return None
    sent_as = headers.get("content-type", "")
    media_type, _, parameters = sent_as.lower().partition(";")
    is_utf8 = "charset" not in parameters or "utf-8" in parameters
    encoding = headers.get("content-encoding", "identity").lower()
    if not _SENT.fullmatch(media_type.strip()) or not is_utf8 or encoding != "identity":
        how = sent_as if encoding == "identity" else f"{sent_as}, {encoding}"
        raise ProblemError(
            "unsupported-media-type",
            f"the body is sent as {how[:100] or 'nothing that it says'}: send JSON in UTF-8 "
            "with Content-Type: application/json",
            {"Accept": "application/json"},
        )
    try:
        body = await receive(request, limit)
    except TooLargeError:
        # What is still on its way is not read, here as in the next.
        detail = f"a body has at most {limit} bytes (OUTBOX_WEB_BODY_LIMIT)"
        raise ProblemError("too-large", detail, {"Connection": "close"}) from None
    except TooSlowError as error:
        raise ProblemError("timeout", str(error), {"Connection": "close"}) from None
    except CutOffError as error:
        raise ProblemError("malformed", str(error)) from None
    if not body and required:
        raise ProblemError("malformed", "the body is empty, and JSON is needed")
    return body or None


def parse_json(body: bytes) -> Any:
    """A body as JSON.

    Raises:
        ProblemError: it is malformed.
    """
    try:
        parsed = orjson.loads(body)
        # An integer beyond 64 bits would be a float now, and another number. As an integer it is
        # refused when it is to be stored.
        return json.loads(body) if _LONG.search(body) else parsed
    except (ValueError, RecursionError) as error:
        raise ProblemError("malformed", f"the body is malformed JSON: {error}") from None


def parse_model(body: bytes, model: type[BaseModel], masking: Masking) -> Any:
    """A body as an instance of a model, as strictly as JSON has types.

    Raises:
        ProblemError: it is none.
    """
    parsed = parse_json(body)
    if not isinstance(parsed, dict):
        raise ProblemError("malformed", f"the body is a JSON object, not {_kind_of(parsed)}")
    try:
        return _validated(body, parsed, model)
    except ValidationError as error:
        raise _refused("invalid-input", "the body", error, masking) from None


def _validated(body: bytes, parsed: dict[str, Any], model: type[BaseModel]) -> BaseModel:
    try:
        return model.model_validate_json(body, strict=True)
    except ValidationError as error:
        # 5.0 is an integer to JSON Schema, and to some who write JSON.
        wholes = [one for one in error.errors() if _is_whole(one)]
        if not wholes or not all(_replace(parsed, one["loc"]) for one in wholes):
            raise
        return model.model_validate_json(json.dumps(parsed), strict=True)


def _is_whole(error: ErrorDetails) -> bool:
    value = error["input"]
    return error["type"] == "int_type" and isinstance(value, float) and value.is_integer()


def _replace(parsed: Any, place: tuple[int | str, ...]) -> bool:
    """Makes a number an integer; False where the place is not one of the document."""
    try:
        for part in place[:-1]:
            parsed = parsed[part]
        parsed[place[-1]] = int(parsed[place[-1]])
    except (KeyError, IndexError, TypeError):
        return False
    return True


def _refused(slug: str, what: str, error: ValidationError, masking: Masking) -> ProblemError:
    """The problem of values that a model refuses, without those that are secret."""
    problems = []
    for found in error.errors(include_url=False, include_context=False):
        place = [str(part) for part in found["loc"]]
        value = found["input"]
        hidden = any(map(masking.hides, place))
        is_shown = not hidden and isinstance(value, str | int | float | bool | None)
        got = f", not {value!r:.80}" if is_shown and found["type"] != "missing" else ""
        # A message of an application's own may repeat the value.
        message = found["msg"].removeprefix("Value error, ")
        is_ours = not hidden or found["type"] != "value_error"
        problems.append(
            {
                "pointer": "#" + "".join(f"/{_escaped(p)}" for p in place),
                "detail": (message if is_ours else "the value is refused") + got,
            }
        )
    first = problems[0]
    name = first["pointer"].removeprefix("#/").replace("/", ".").removeprefix("#")
    return ProblemError(
        slug,
        f"{what} is refused{f' at {name}' if name else ''}: {first['detail']}",
        errors=problems,
    )


def _is_list(annotation: Any) -> bool:
    return getattr(annotation, "__origin__", None) in (list, tuple)


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")


def _kind_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case _:
            return "a list"

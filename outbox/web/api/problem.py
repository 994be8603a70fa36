"""Answers that say what is wrong, for programs and for people: RFC 9457, problem details."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson
import psycopg
from psycopg_pool import PoolTimeout
from starlette.responses import Response

from outbox.errors import (
    InputError,
    KeyConflictError,
    NotApplicableError,
    NotFoundError,
    OutboxError,
    SchemaError,
    StaleError,
    UnknownTypeError,
    from_database,
)

_IN_PATHS = "/~:@!$&'()*+,;="  # beside letters, digits and -._ (RFC 3986)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = 2  # seconds, where the database is to be asked again


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem: ``slug`` ends its ``type``, which leads to what ``/api`` says of it."""

    slug: str
    status: int
    title: str
    remedy: str


KINDS = {
    kind.slug: kind
    for kind in (
        Kind("malformed", 400, "The request is malformed",
             "Correct what the detail names; it was not looked at any further."),
        Kind("invalid-input", 400, "The input is refused",
             "Correct the fields in `errors`, or what the detail names. Nothing was started or "
             "changed, so the same key can be used."),
        Kind("unauthorized", 401, "A token is needed",
             "Send `Authorization: Bearer <token>`; `bin/web new-token` makes one."),
        Kind("forbidden", 403, "The token's role is not enough",
             "Use a token with the role that the detail names."),
        Kind("not-found", 404, "There is no such thing", "Look at the id, or at the address."),
        Kind("unknown-type", 404, "No such saga type is registered",
             "Start a worker that runs it, or run `bin/saga register`."),
        Kind("method-not-allowed", 405, "This address has no such method",
             "The header `Allow` has those that it has."),
        Kind("timeout", 408, "The body did not arrive in time", "Send it again."),
        Kind("not-applicable", 409, "The act does not fit the saga",
             "Look at the saga; `since` has what happened after the seq that you sent. Nothing was "
             "changed."),
        Kind("stale", 409, "The saga has moved on",
             "Look at `since`, which has what happened after the seq that you sent, and decide "
             "again. Nothing was changed."),
        Kind("precondition-failed", 412, "The saga has moved on",
             "As `stale`, where the seq came as `If-Match`."),
        Kind("too-large", 413, "The body is too large",
             "Send less, or raise OUTBOX_WEB_BODY_LIMIT."),
        Kind("unsupported-media-type", 415, "The body is not JSON",
             "Send it with `Content-Type: application/json`."),
        Kind("key-conflict", 422, "The key was used with something else",
             "A key names one business transaction: use a new key, or send what was sent first."),
        Kind("too-many-requests", 429, "Too many wrong tokens",
             "Wait for as long as `Retry-After` says."),
        Kind("internal-error", 500, "Something went wrong", "It was logged."),
        Kind("unavailable", 503, "It cannot be answered now",
             "Send it again after `Retry-After`: what carries a key is not done twice."),
    )
}  # fmt: skip


class ProblemError(Exception):
    """Ends a request with a problem.

    Args:
        slug: of ``KINDS``.
        detail: what is wrong this time, with the value, and what to do about it.
        headers: of the answer.
        more: further members of the problem.
    """

    def __init__(
        self,
        slug: str,
        detail: str,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.kind, self.detail = KINDS[slug], detail
        self.headers, self.more = dict(headers or {}), more


def answer(problem: ProblemError, root: str, instance: str) -> Response:
    """The answer of a problem.

    Args:
        root: the path under which everything is served.
        instance: the address that was asked.
    """
    kind = problem.kind
    said = {
        "type": f"{root}/api#{kind.slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": problem.detail,
        "instance": quote(instance, safe=_IN_PATHS),
        **problem.more,
    }
    # Tokens, keys and causes of trouble are nobody's to keep.
    headers = {"Cache-Control": "no-store", **problem.headers}
    return Response(orjson.dumps(said, default=str), kind.status, headers, MEDIA_TYPE)


def problem_of(error: Exception) -> ProblemError | None:
    """The problem that an error stands for; None: it is one of ours, for the log."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, OutboxError):
        return _of_ours(error)
    if isinstance(error, PoolTimeout):
        return _unavailable("all connections to the database are in use, or it cannot be reached")
    if not isinstance(error, psycopg.Error):
        return None
    if (ours := from_database(error)) is not None:
        return _of_ours(ours)
    said = error.diag.message_primary or type(error).__name__
    match error:
        case psycopg.errors.QueryCanceled():
            return _unavailable("the database was given ten seconds, and they were not enough")
        case (
            psycopg.errors.UndefinedTable()
            | psycopg.errors.UndefinedFunction()
            | psycopg.errors.UndefinedColumn()
            | psycopg.errors.InvalidSchemaName()
        ):
            return _unavailable(f"the database's schema is missing or behind ({said}): migrate it")
        case psycopg.errors.ReadOnlySqlTransaction():
            return _unavailable("the database is read-only, as a standby is: nothing was done")
        case psycopg.OperationalError():
            return _unavailable("the database cannot be reached, or it gave up this transaction")
        case psycopg.errors.InsufficientPrivilege():
            return ProblemError(
                "internal-error",
                f"the server's database login may not do that ({said}): grant it the role "
                "…_operator, see bin/saga migrate --roles",
            )
        case psycopg.DataError():
            return ProblemError("malformed", f"the database cannot take a value of it: {said}")
    return None


def _of_ours(error: OutboxError) -> ProblemError | None:
    match error:
        case UnknownTypeError():
            slug = "unknown-type"
        case KeyConflictError():
            slug = "key-conflict"
        case InputError():
            slug = "invalid-input"
        case NotFoundError():
            slug = "not-found"
        case StaleError():
            slug = "stale"
        case NotApplicableError():
            slug = "not-applicable"
        case SchemaError():
            return _unavailable(str(error))
        case _:
            return None
    return ProblemError(slug, str(error))


def _unavailable(detail: str) -> ProblemError:
    return ProblemError("unavailable", detail, {"Retry-After": str(RETRY_AFTER)})

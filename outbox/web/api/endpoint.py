"""How an operation is reached: by whom, and what becomes of errors on the way."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg_pool import PoolTimeout
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from outbox.web.address import sender_of
from outbox.web.api.operation import AnyJson, Operation
from outbox.web.api.parse import parse_json, parse_model, read_body, read_key, read_query
from outbox.web.api.problem import ProblemError, answer, problem_of
from outbox.web.api.request import ApiRequest
from outbox.web.api.tokens import ApiRole, Token, Tokens
from outbox.web.site import Site
from outbox.web.throttle import Throttle

_log = logging.getLogger("outbox")
_WINDOW = 300.0
_CHALLENGE = 'Bearer realm="outbox"'


class Guard:
    """Lets in who has a token.

    Args:
        site: of which the wrong ones are told.
        tokens: the right ones.
    """

    def __init__(self, site: Site, tokens: Tokens) -> None:
        self._site, self._tokens = site, tokens
        # As many as wrong passwords from an address. A right token gets in all the same: nobody
        # finds one by trying, and others may come from the same address.
        self._wrong = Throttle(site.web.login_attempts * 4, _WINDOW)

    def check(self, request: Request, role: ApiRole) -> Token:
        """The token of a request.

        Raises:
            ProblemError: there is none, or it is wrong, or its role is not enough.
        """
        scheme, _, sent = request.headers.get("authorization", "").partition(" ")
        sent = sent.strip()
        if scheme.lower() != "bearer" or not sent:
            how = "bin/web new-token makes one"
            if not self._tokens:
                how += ", and OUTBOX_WEB_TOKENS has none yet"
            raise ProblemError(
                "unauthorized",
                f"the header Authorization: Bearer <token> is missing; {how}",
                {"WWW-Authenticate": _CHALLENGE},
            )
        token = self._tokens.find(sent)
        if token is None:
            raise self._refused(request)
        if not token.may(role):
            raise ProblemError(
                "forbidden",
                f"this needs the role {role}, and the token {token.name!r} has the role "
                f"{token.role}",
                {"WWW-Authenticate": f'{_CHALLENGE}, error="insufficient_scope", scope="{role}"'},
            )
        return token

    def _refused(self, request: Request) -> ProblemError:
        address = ApiRequest(request, self._site, None).address
        wait = self._wrong.take(sender_of(address))
        if wait > 0:
            return ProblemError(
                "too-many-requests",
                f"too many wrong tokens came from {address}",
                {"Retry-After": str(math.ceil(wait))},
            )
        self._site.telemetry.emit("token_refused", "warning", address=address)
        return ProblemError(
            "unauthorized",
            "nobody has this token: was it copied whole, and is its line in OUTBOX_WEB_TOKENS of "
            "this server?",
            {"WWW-Authenticate": f'{_CHALLENGE}, error="invalid_token"'},
        )


class Endpoint:
    """One address, as an ASGI application: its operations by method.

    Args:
        operations: by method.
    """

    def __init__(self, site: Site, guard: Guard, operations: Mapping[str, Operation]) -> None:
        self._site, self._guard, self._operations = site, guard, operations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except Exception as error:  # noqa: BLE001 - whatever it is, its sender gets an answer
            problem = problem_of(error)
            if problem is None:
                _log.exception("the API failed at %s %s", request.method, request.url.path)
                problem = ProblemError("internal-error", "it was logged")
            elif problem.kind.status >= 500:
                self._tell(request, error)
                problem = await self._explained(request, error, problem)
            response = answer(problem, self._site.web.root_path, request.url.path)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        operation = self._operations.get(method)
        reads = self._operations.get("GET")
        has_head = reads is not None and not reads.streams
        if operation is None or (request.method == "HEAD" and not has_head):
            known = [*self._operations, *(["HEAD"] if has_head else [])]
            raise ProblemError(
                "method-not-allowed",
                f"{request.method[:20]} is none of {', '.join(known)}",
                {"Allow": ", ".join(known)},
            )
        token = None if operation.role is None else self._guard.check(request, operation.role)
        call = ApiRequest(request, self._site, token)
        if any("\0" in value for value in request.path_params.values()):
            raise ProblemError("malformed", "the address has the character NUL")
        call.query = read_query(request, operation.query, call.masking)
        if operation.key is not None:
            call.key = read_key(request, required=operation.key == "required")
        call.body = await _body_of(call, operation)
        response = await operation.handler(call)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    async def _explained(
        self, request: Request, error: Exception, problem: ProblemError
    ) -> ProblemError:
        """The problem with the reason why the database cannot be used, for whoever has a token."""
        asked = self._operations.get("GET" if request.method == "HEAD" else request.method)
        if (
            asked is None
            or asked.role is None
            or not isinstance(error, psycopg.Error | PoolTimeout)
        ):
            return problem
        why = await self._site.reach.why()
        if problem.kind.slug != "unavailable" or why is None:
            return problem
        return ProblemError("unavailable", why, problem.headers)

    def _tell(self, request: Request, error: Exception) -> None:
        reason = " ".join(str(error).split())
        self._site.telemetry.emit(
            "api_failed",
            "warning",
            path=request.url.path,
            error=f"{type(error).__name__}: {reason}",
        )


def routes_of(site: Site, guard: Guard, operations: Sequence[Operation]) -> list[Route]:
    """The routes of operations, those with fewer parameters first."""
    by_path: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, {})[operation.method] = operation
    return [
        Route(path, Endpoint(site, guard, found))
        for path, found in sorted(by_path.items(), key=lambda item: item[0].count("{"))
    ]


async def _body_of(call: ApiRequest, operation: Operation) -> Any:
    wanted = operation.body
    if wanted is None:
        return None
    required = not isinstance(wanted, AnyJson) or wanted.required
    body = await read_body(call.request, required=required, limit=call.site.web.body_limit)
    if body is None:
        return None
    if isinstance(wanted, AnyJson):
        return parse_json(body)
    return parse_model(body, wanted, call.masking)

"""How a page is reached: by whom, and what becomes of errors on the way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal
from urllib.parse import urlsplit

import psycopg
from psycopg_pool import PoolTimeout
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from outbox.errors import (
    InputError,
    NotApplicableError,
    NotFoundError,
    OutboxError,
    from_database,
)
from outbox.web.body import TooLargeError, TooSlowError
from outbox.web.settings import Role
from outbox.web.visit import Visit

Handler = Callable[[Visit], Awaitable[Response]]


def page(path: str, handler: Handler, role: Role | None = "viewer") -> Route:
    """A page to look at, for whoever has the role; None: for everybody."""
    return Route(path, _endpoint(handler, role, "GET"), methods=["GET"], name=handler.__name__)


def act(path: str, handler: Handler, role: Role | None = "operator") -> Route:
    """What a form is sent to. Its token is checked before the handler is called."""
    return Route(path, _endpoint(handler, role, "POST"), methods=["POST"], name=handler.__name__)


def inside(address: str | None) -> str | None:
    """A path within the dashboard that somebody gave us to return to, else None: never another
    host's."""
    if not address or not address.startswith("/") or address.startswith(("//", "/\\")):
        return None
    if not address.isprintable() or "\\" in address:
        return None
    parts = urlsplit(address)
    return address if not parts.netloc and not parts.scheme else None


def _endpoint(
    handler: Handler, role: Role | None, method: Literal["GET", "POST"]
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        visit = Visit(request, request.app.state.site)
        try:
            if role is not None and visit.user is None:
                return _ask_to_log_in(visit, method)
            if role is not None and not visit.may(role):
                return await trouble(
                    visit,
                    403,
                    "Not for your role",
                    "This is an operator's act, and you are a viewer.",
                )
            if method == "POST":
                await visit.read_form()
                if not visit.has_token():
                    return await trouble(
                        visit,
                        403,
                        "The form is out of date",
                        "It was not sent from a page of your session, so nothing was changed. "
                        "Go back, reload the page, and send it again.",
                    )
            return visit.finish(await handler(visit))
        except OutboxError as error:
            return await refused(visit, error)
        except (psycopg.Error, PoolTimeout) as error:
            return await _database_trouble(visit, error)

    return endpoint


def _ask_to_log_in(visit: Visit, method: str) -> Response:
    if visit.request.headers.get("x-requested-with") == "live":
        return visit.finish(Response("log in again", 401))
    if method == "POST":
        return visit.go(visit.url("/login"), "Log in again: nothing was changed.", "problem")
    back = visit.request.url.path
    if visit.request.url.query:
        back += f"?{visit.request.url.query}"
    return visit.go(visit.url("/login", next=None if back == visit.url("/sagas") else back))


async def refused(visit: Visit, error: OutboxError) -> Response:
    """The page that says why something was refused."""
    code, title = 400, "That cannot be"
    match error:
        case TooLargeError():
            code, title = 413, "Too large"
        case TooSlowError():
            code, title = 408, "Too slow"
        case NotFoundError():
            code, title = 404, "Not found"
        case NotApplicableError():
            code, title = 409, "Refused"
        case InputError():
            code, title = 400, "That cannot be"
    response = await trouble(visit, code, title, str(error))
    if isinstance(error, TooLargeError | TooSlowError):
        response.headers["Connection"] = "close"  # what is still on its way is not read
    return response


async def trouble(visit: Visit, code: int, title: str, text: str) -> Response:
    """A page about what went wrong."""
    return visit.bare_page("trouble.html", code, title=title, text=text, code=code)


async def _why(visit: Visit) -> str:
    """What is known of why the database cannot be reached, for who has logged in."""
    why = None if visit.user is None else await visit.site.reach.why()
    return "" if why is None else f" For whoever runs this: {why}."


async def _database_trouble(visit: Visit, error: Exception) -> Response:
    ours = from_database(error) if isinstance(error, psycopg.Error) else None
    if ours is not None:
        return await refused(visit, ours)
    reason = " ".join(str(error).split())
    visit.site.telemetry.emit(
        "page_failed",
        "warning",
        path=visit.request.url.path,
        error=f"{type(error).__name__}: {reason}",
    )
    match error:
        case psycopg.errors.QueryCanceled():
            return await trouble(
                visit,
                503,
                "That took too long",
                "The database was given ten seconds, and they were not enough. Narrow the filter, "
                "or try again when there is less load.",
            )
        case psycopg.errors.InsufficientPrivilege():
            return await trouble(
                visit,
                500,
                "The server's login may not do that",
                f"{error.diag.message_primary}. Grant its login the role …_operator: see bin/saga "
                "migrate --roles.",
            )
        case (
            psycopg.errors.UndefinedTable()
            | psycopg.errors.UndefinedFunction()
            | psycopg.errors.UndefinedColumn()
            | psycopg.errors.InvalidSchemaName()
        ):
            return await trouble(
                visit,
                503,
                "The schema is missing or behind",
                f"{error.diag.message_primary}. Run bin/saga migrate.",
            )
        case psycopg.errors.ReadOnlySqlTransaction():
            return await trouble(
                visit,
                503,
                "The database is read-only",
                "So nothing was done. A standby is read-only: connect the server to the primary.",
            )
        case psycopg.OperationalError() | PoolTimeout():
            what_now = "Reload in a moment."
            if visit.request.method == "POST" and not isinstance(error, PoolTimeout):
                what_now = "Whether this was done is not known: look before you send it again."
            return await trouble(
                visit,
                503,
                "The database cannot be reached",
                f"Sagas that are under way are not touched by that. {what_now}{await _why(visit)}",
            )
        case psycopg.DataError():
            said = error.diag.message_primary or reason
            return await trouble(
                visit, 400, "That cannot be", f"The database cannot take a value of it: {said}."
            )
    return await trouble(visit, 500, "Something went wrong", "It was logged.")

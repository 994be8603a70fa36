"""The web application: its parts put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from outbox.settings import Settings
from outbox.telemetry import Telemetry
from outbox.web.api.app import Api
from outbox.web.api.problem import ProblemError, answer
from outbox.web.metrics import MetricsEndpoint
from outbox.web.pages.route import trouble
from outbox.web.pages.routes import routes
from outbox.web.security import HEADERS, SecurityHeaders
from outbox.web.settings import WebSettings
from outbox.web.site import Site
from outbox.web.visit import Visit


def make_app(
    settings: Settings, web: WebSettings, dsn: str, telemetry: Telemetry | None = None
) -> Starlette:
    """The application, for any ASGI server; its connections are opened by its lifespan.

    Args:
        settings: of all programs.
        web: of the web server.
        dsn: where the database is.
        telemetry: is told who did what, and of trouble.

    Raises:
        ConfigurationError: a setting is missing or wrong.
    """
    site = Site(settings, web, dsn, telemetry or Telemetry())
    api = Api(site)
    metrics = MetricsEndpoint(site, api.guard, dsn)
    scraped = [] if web.metrics == "off" else [Route("/metrics", metrics.scrape, methods=["GET"])]

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with site.opened():
            yield
        metrics.close()

    app = Starlette(
        routes=[*api.routes(), *scraped, *routes()],
        middleware=[Middleware(SecurityHeaders)],
        exception_handlers={Exception: _failed, 404: _missing},
        lifespan=lifespan,
    )
    # To where it redirects, the header Host would say.
    app.router.redirect_slashes = False
    app.state.site, app.state.api = site, api
    return app


async def _failed(request: Request, error: Exception) -> Response:
    """An error of ours. Its traceback is for the log, by the server."""
    response = await _failure(request, error)
    for name, value in HEADERS.items():  # this is answered outside of the middleware
        response.headers.setdefault(name, value)
    return response


async def _failure(request: Request, _error: Exception) -> Response:
    if _is_under(request, "/api"):
        return _problem(request, ProblemError("internal-error", "it was logged"))
    if not _is_under(request, "/admin"):
        return PlainTextResponse("something went wrong; it was logged", 500)
    return await trouble(
        Visit(request, request.app.state.site), 500, "Something went wrong", "It was logged."
    )


async def _missing(request: Request, _error: Exception) -> Response:
    if _is_under(request, "/api"):
        said = f"nothing is at {request.url.path[:200]}: the page /api has all addresses"
        return _problem(request, ProblemError("not-found", said))
    return PlainTextResponse("not found", 404)


def _problem(request: Request, problem: ProblemError) -> Response:
    return answer(problem, request.app.state.site.web.root_path, request.url.path)


def _is_under(request: Request, path: str) -> bool:
    # Within a mount root_path has its path too.
    root = request.scope.get("app_root_path", request.scope.get("root_path", ""))
    whole = f"{root}{path}"
    return request.url.path == whole or request.url.path.startswith(f"{whole}/")

"""The web application: its parts put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from outbox.settings import Settings
from outbox.telemetry import Telemetry
from outbox.web.pages.route import trouble
from outbox.web.pages.routes import routes
from outbox.web.security import SecurityHeaders
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

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with site.opened():
            yield

    app = Starlette(
        routes=routes(),
        middleware=[Middleware(SecurityHeaders)],
        exception_handlers={Exception: _failed, 404: _missing},
        lifespan=lifespan,
    )
    app.state.site = site
    return app


async def _failed(request: Request, error: Exception) -> Response:
    """An error of ours. Its traceback is for the log, by the server."""
    if not request.url.path.startswith(f"{request.scope.get('root_path', '')}/admin"):
        return PlainTextResponse("something went wrong; it was logged", 500)
    return await trouble(
        Visit(request, request.app.state.site), 500, "Something went wrong", "It was logged."
    )


async def _missing(request: Request, _error: Exception) -> Response:
    return PlainTextResponse("not found", 404)

"""All pages, and who may see them."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from outbox.web.pages import acts, fleet, interventions, listing, login, saga, types
from outbox.web.pages.live import live
from outbox.web.pages.route import act, page, trouble
from outbox.web.rendering import STATIC
from outbox.web.visit import Visit


class _Files(StaticFiles):
    """Files whose address changes with their content, so that they are kept for good."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        if response.status_code == 200:
            response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


def routes() -> list[BaseRoute]:
    """Everything under ``/admin``, and the way there."""
    return [
        Route("/", _to_dashboard),
        Route("/admin", _to_dashboard),
        Mount("/admin/static", _Files(directory=STATIC), name="static"),
        Mount(
            "/admin",
            routes=[
                Route("/", _to_dashboard),
                page("/login", login.login_page, role=None),
                act("/login", login.log_in, role=None),
                act("/logout", login.log_out, role=None),
                act("/theme", login.choose_theme, role=None),
                page("/live/{view}", live),
                page("/live/{view}/{id}", live),
                page("/sagas", listing.saga_list),
                page("/sagas/{id}", saga.saga_page),
                page("/sagas/{id}/acts", saga.saga_acts),
                act("/sagas/{id}/acts/{act}", acts.act_on_saga),
                act("/sagas/{id}/redeliver", acts.redeliver),
                page("/interventions", interventions.queue),
                page("/interventions/past", interventions.past),
                act("/interventions/plan", interventions.plan),
                act("/interventions/act", interventions.perform),
                page("/types", types.type_list),
                page("/types/{type}", types.type_page),
                act("/types/{type}/limits", types.set_limit),
                act("/types/{type}/limits/drop", types.drop_limit),
                act("/types/{type}/pause", types.pause_type),
                act("/types/{type}/resume", types.resume_type),
                page("/health", fleet.health),
                page("/workers", fleet.workers),
                page("/schedules", fleet.schedules),
                act("/schedules", fleet.set_schedule),
                act("/schedules/pause", fleet.pause_schedule),
                act("/schedules/resume", fleet.resume_schedule),
                act("/schedules/drop", fleet.drop_schedule),
                Route("/{rest:path}", _nothing_here),
            ],
        ),
    ]


async def _to_dashboard(request: Request) -> Response:
    return RedirectResponse(request.app.state.site.rendering.url("/sagas"), 303)


async def _nothing_here(request: Request) -> Response:
    visit = Visit(request, request.app.state.site)
    return await trouble(visit, 404, "Not found", f"There is no page {request.url.path}.")

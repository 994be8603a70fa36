"""The API put together."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from starlette.routing import BaseRoute

from outbox.web.api import acting, bulk, changes, events, fleet, reading, signaling
from outbox.web.api.about import About
from outbox.web.api.endpoint import Guard, routes_of
from outbox.web.api.openapi import Description
from outbox.web.api.operation import Operation
from outbox.web.api.own import load_routes, own_operations
from outbox.web.api.schema import InputSchemas
from outbox.web.api.starting import Starting
from outbox.web.api.tokens import load_tokens
from outbox.web.site import Site

_SHIPPED = "steps.payment_routes:routes"


class Api:
    """Everything under ``/api``.

    Args:
        site: what it shares with the pages.

    Raises:
        ConfigurationError: a token or a route of the settings is wrong.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self.guard = Guard(site, load_tokens(site.web))
        inputs = InputSchemas(site.schema, site.rendering.masking)
        ours = [
            Starting(inputs).operation(),
            *reading.operations(),
            *events.operations(),
            *signaling.operations(),
            *acting.operations(),
            *bulk.operations(),
            *fleet.operations(),
            *changes.operations(),
            Description(self._all).operation(),
            About(self._all).operation(),
        ]
        self.operations = [*ours, *own_operations(load_routes(_routes_of(site)), ours)]
        """All that is served, and described."""

    def routes(self) -> list[BaseRoute]:
        """Its routes."""
        return [*routes_of(self._site, self.guard, self.operations)]

    def _all(self) -> Sequence[Operation]:
        return self.operations


def _routes_of(site: Site) -> str:
    """The setting; without it the shipped payment's, where that saga is the application."""
    if site.web.routes is not None:
        return site.web.routes
    apps = [app.strip().partition(":")[0] for app in site.settings.apps.split(",")]
    return _SHIPPED if "steps.payment" in apps and _is_there(_SHIPPED) else ""


def _is_there(reference: str) -> bool:
    """Whether a module can be found: a package of the user's own may have its name."""
    try:
        return importlib.util.find_spec(reference.partition(":")[0]) is not None
    except ModuleNotFoundError:
        return False

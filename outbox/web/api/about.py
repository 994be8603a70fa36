"""``GET /api``: a page for people, with all addresses and all kinds of problems."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.responses import HTMLResponse, Response

from outbox.web.api.operation import Answer, Operation
from outbox.web.api.problem import KINDS
from outbox.web.api.request import ApiRequest


class About:
    """Serves the page. It needs no token, so it tells nothing of this installation but its
    addresses.

    Args:
        operations: asks for all operations that are served.
    """

    def __init__(self, operations: Callable[[], Sequence[Operation]]) -> None:
        self._operations = operations

    def operation(self) -> Operation:
        """Its route."""
        page = Answer("The page.", media_type="text/html")
        return Operation(
            "GET", "/api", self.serve, None, "What there is, for people", {200: page}, tag="about"
        )

    async def serve(self, call: ApiRequest) -> Response:
        """The page."""
        by_tag: dict[str, list[Operation]] = {}
        for one in self._operations():
            by_tag.setdefault(one.tag, []).append(one)
        text = call.site.rendering.render(
            "api.html", groups=by_tag, kinds=list(KINDS.values()), root=call.root
        )
        return HTMLResponse(text)

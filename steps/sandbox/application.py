"""The sandbox's routes: the provider's own, and those with which a test looks behind them."""

from __future__ import annotations

import re
import time
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from steps.sandbox import answers
from steps.sandbox.answers import Answer
from steps.sandbox.connection import DroppedConnection, NoAnswer
from steps.sandbox.faults import Fault, Operation
from steps.sandbox.intents import Request
from steps.sandbox.partner_routes import PartnerRoutes
from steps.sandbox.partner_store import PartnerStore
from steps.sandbox.service import Delivery, Reply, Service
from steps.sandbox.store import IntentFilter, Store

INTENTS_URL = "/v1/payment_intents"
SEARCH_QUERY = re.compile(r"""metadata\[["']saga_id["']\]\s*:\s*["']([^"']+)["']""")
LIST_PARAMETERS = frozenset({"customer", "limit", "starting_after", "created"})


class Routes:
    """One method an endpoint.

    Args:
        store: what is remembered.
        service: the operations.
        search_lag: how many seconds search is behind, as the provider's is.
    """

    def __init__(self, store: Store, service: Service, search_lag: float) -> None:
        self._store = store
        self._service = service
        self._search_lag = search_lag

    async def create(self, http: HttpRequest) -> Response:
        """POST /v1/payment_intents"""
        if not _authorized(http):
            return _response(Reply(answers.unauthorized()))
        return _response(await self._service.create(await _request(http)))

    async def confirm(self, http: HttpRequest) -> Response:
        """POST /v1/payment_intents/{id}/confirm"""
        if not _authorized(http):
            return _response(Reply(answers.unauthorized()))
        intent_id = http.path_params["id"]
        return _response(await self._service.confirm(intent_id, await _request(http)))

    async def cancel(self, http: HttpRequest) -> Response:
        """POST /v1/payment_intents/{id}/cancel"""
        if not _authorized(http):
            return _response(Reply(answers.unauthorized()))
        intent_id = http.path_params["id"]
        return _response(await self._service.cancel(intent_id, await _request(http)))

    async def retrieve(self, http: HttpRequest) -> Response:
        """GET /v1/payment_intents/{id}"""
        if not _authorized(http):
            return _response(Reply(answers.unauthorized()))
        return _response(await self._service.retrieve(http.path_params["id"]))

    async def list(self, http: HttpRequest) -> Response:
        """GET /v1/payment_intents: newest first, and never behind."""
        if not _authorized(http):
            return _response(Reply(answers.unauthorized()))
        parameters = dict(http.query_params)
        return _response(await self._service.read_many(lambda: self._list(parameters)))

    async def search(self, http: HttpRequest) -> Response:
        """GET /v1/payment_intents/search: by metadata, and behind by some seconds."""
        if not _authorized(http):
            return _response(Reply(answers.unauthorized()))
        query = http.query_params.get("query", "")
        return _response(await self._service.read_many(lambda: self._search(query)))

    async def effects(self, http: HttpRequest) -> Response:
        """GET /sandbox/effects: every effect that really happened, in order."""
        return JSONResponse(self._store.effects())

    async def intents(self, http: HttpRequest) -> Response:
        """GET /sandbox/intents: every intent as it stands, newest first."""
        return JSONResponse(self._store.intents(IntentFilter(limit=-1)))

    async def add_fault(self, http: HttpRequest) -> Response:
        """POST /sandbox/faults: ``{"operation", "fault", "times": n or null, "saga_id"?}``."""
        try:
            body = await http.json()
            times = body.get("times", 1)
            self._store.add_fault(
                Operation(body["operation"]),
                Fault(body["fault"]),
                None if times is None else int(times),
                body.get("saga_id"),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            return JSONResponse({"error": f"not a fault rule: {error!r}"}, status_code=400)
        return JSONResponse({}, status_code=201)

    async def clear_faults(self, http: HttpRequest) -> Response:
        """DELETE /sandbox/faults: forget the rules added here, not those of payments."""
        self._store.clear_faults()
        return JSONResponse({})

    def _list(self, parameters: dict[str, str]) -> Answer:
        for name in parameters:
            if name.partition("[")[0] not in LIST_PARAMETERS:
                return answers.invalid(f"Received unknown parameter: {name}", parameter=name)
        try:
            limit = int(parameters.get("limit", "10"))
            created_from, created_before = _created(parameters)
        except ValueError as error:
            return answers.invalid(f"Invalid integer: {error}")
        if not 1 <= limit <= 100:
            return answers.invalid(f"Invalid limit: {limit}; use 1 to 100", parameter="limit")
        found = self._store.intents(
            IntentFilter(
                limit=limit + 1,
                customer=parameters.get("customer"),
                starting_after=parameters.get("starting_after"),
                created_from=created_from,
                created_before=created_before,
            )
        )
        return answers.page(found, limit, url=INTENTS_URL)

    def _search(self, query: str) -> Answer:
        match = SEARCH_QUERY.fullmatch(query.strip())
        if match is None:
            return answers.invalid(
                f"The sandbox only searches for metadata['saga_id']:'...', not for: {query}",
                parameter="query",
            )
        found = self._store.intents(
            IntentFilter(limit=101, saga_id=match[1], created_before=time.time() - self._search_lag)
        )
        return answers.page(found, 100, url=f"{INTENTS_URL}/search", kind="search_result")


def build(store: Store, partners: PartnerStore, *, slow: float, search_lag: float) -> Starlette:
    """Make the application.

    Args:
        store: what is remembered.
        partners: and of bookings.
        slow: how long a ``slow`` fault takes, in seconds.
        search_lag: how many seconds search is behind.

    Returns:
        The application, to be served with :class:`steps.sandbox.connection.AbortableProtocol`.
    """
    routes = Routes(store, Service(store, slow), search_lag)
    bookings = PartnerRoutes(partners, slow)
    return Starlette(
        exception_handlers={ClientDisconnect: _client_gone},
        routes=[
            Route(INTENTS_URL, routes.create, methods=["POST"]),
            Route(INTENTS_URL, routes.list, methods=["GET"]),
            Route(f"{INTENTS_URL}/search", routes.search, methods=["GET"]),
            Route(f"{INTENTS_URL}/{{id}}", routes.retrieve, methods=["GET"]),
            Route(f"{INTENTS_URL}/{{id}}/confirm", routes.confirm, methods=["POST"]),
            Route(f"{INTENTS_URL}/{{id}}/cancel", routes.cancel, methods=["POST"]),
            Route("/partners/{service}/bookings", bookings.book, methods=["POST"]),
            Route("/partners/{service}/bookings", bookings.find, methods=["GET"]),
            Route("/partners/{service}/bookings/{id}", bookings.cancel, methods=["DELETE"]),
            Route("/sandbox/bookings", bookings.all, methods=["GET"]),
            Route("/sandbox/effects", routes.effects, methods=["GET"]),
            Route("/sandbox/intents", routes.intents, methods=["GET"]),
            Route("/sandbox/faults", routes.add_fault, methods=["POST"]),
            Route("/sandbox/faults", routes.clear_faults, methods=["DELETE"]),
        ],
    )


def _client_gone(_http: HttpRequest, _error: Exception) -> Response:
    """A client that was killed in mid-request hears nothing any more."""
    return Response(status_code=499)


def _authorized(http: HttpRequest) -> bool:
    return http.headers.get("Authorization", "").startswith("Bearer sk_test_")


async def _request(http: HttpRequest) -> Request:
    body = (await http.body()).decode()
    form = dict(parse_qsl(body, keep_blank_values=True))
    return Request(form, http.headers.get("Idempotency-Key"))


def _response(reply: Reply) -> Response:
    if reply.delivery is Delivery.DROPPED:
        return DroppedConnection()
    if reply.delivery is Delivery.WITHHELD or reply.answer is None:
        return NoAnswer()
    answer = reply.answer
    return Response(answer.text, answer.status, dict(answer.headers), media_type="application/json")


def _created(parameters: dict[str, str]) -> tuple[float | None, float | None]:
    # The provider's times are whole seconds, ours are not: [lte] 5 means everything before 6.
    if "created" in parameters:
        exactly = int(parameters["created"])
        return exactly, exactly + 1
    lowest = [int(parameters["created[gte]"])] if "created[gte]" in parameters else []
    lowest += [int(parameters["created[gt]"]) + 1] if "created[gt]" in parameters else []
    highest = [int(parameters["created[lt]"])] if "created[lt]" in parameters else []
    highest += [int(parameters["created[lte]"]) + 1] if "created[lte]" in parameters else []
    return max(lowest, default=None), min(highest, default=None)

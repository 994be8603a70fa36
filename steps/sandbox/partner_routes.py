"""Partners who take bookings: a warehouse, a carrier, an airline, whoever ``{service}`` names.

``POST /partners/{service}/bookings`` takes ``{"reference", "item", "callback_url"?, "fault"?}`` and
an ``Idempotency-Key``, and answers 201 with the booking, also when the key is repeated. An item
whose name contains ``unavailable`` is refused with 409. The faults are those of
``steps.sandbox.faults``, for the operations *create*, *cancel* and *list*; what failed with 500 is
not remembered here, so that the same key may try again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from steps.sandbox import faults
from steps.sandbox.connection import DroppedConnection, NoAnswer
from steps.sandbox.faults import Fault, Operation
from steps.sandbox.partner_store import PartnerStore

UNAVAILABLE = "unavailable"


class PartnerRoutes:
    """One method an endpoint.

    Args:
        store: what is remembered.
        slow: how long the fault ``slow`` takes, in seconds.
    """

    def __init__(self, store: PartnerStore, slow: float) -> None:
        self._store = store
        self._slow = slow

    async def book(self, http: Request) -> Response:
        """POST /partners/{service}/bookings"""
        service, key = http.path_params["service"], http.headers.get("Idempotency-Key")
        try:
            body = await http.json()
            reference, item = str(body["reference"]), str(body["item"])
            rules = str(body.get("fault") or "")
            faults.parse(rules)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            return _error(422, "malformed", f"not a booking: {error!r}")
        if not key:
            return _error(400, "key_missing", "Idempotency-Key is missing")
        fingerprint = hashlib.sha256(json.dumps([reference, item]).encode()).hexdigest()
        self._store.remember_trouble(service, reference, rules)

        def perform() -> Response:
            known = self._store.by_key(service, key)
            if known is not None:
                booking, asked = known
                if asked != fingerprint:
                    return _error(422, "key_reused", f"{key} was used for another booking")
                return JSONResponse(booking, 201, {"Idempotent-Replayed": "true"})
            if UNAVAILABLE in item:
                return _error(409, UNAVAILABLE, f"{item} cannot be had")
            made = self._store.add(
                service, reference, item, key, fingerprint, body.get("callback_url")
            )
            return JSONResponse(made, 201)

        return await self._serve(service, reference, Operation.CREATE, perform)

    async def find(self, http: Request) -> Response:
        """GET /partners/{service}/bookings?reference=..."""
        service = http.path_params["service"]
        reference = http.query_params.get("reference", "")

        def perform() -> Response:
            return JSONResponse({"data": self._store.by_reference(service, reference)})

        return await self._serve(service, reference, Operation.LIST, perform)

    async def cancel(self, http: Request) -> Response:
        """DELETE /partners/{service}/bookings/{id}: cancelled already is as good."""
        service, booking = http.path_params["service"], http.path_params["id"]
        known = self._store.by_id(service, booking)
        if known is None:
            return _error(404, "unknown", f"no booking {booking}")

        def perform() -> Response:
            self._store.cancel(booking)
            return JSONResponse(self._store.by_id(service, booking))

        return await self._serve(service, known["reference"], Operation.CANCEL, perform)

    async def all(self, http: Request) -> Response:
        """GET /sandbox/bookings: every booking as it stands, oldest first."""
        return JSONResponse(self._store.all())

    async def _serve(
        self, service: str, reference: str, operation: Operation, perform: Callable[[], Response]
    ) -> Response:
        request = self._store.count_request(service, reference, operation)
        rules = faults.parse(self._store.trouble(service, reference))
        match faults.fault_for(rules, operation, request):
            case Fault.RATE_LIMIT:
                return _error(429, "rate_limit", "too many requests", {"Retry-After": "1"})
            case Fault.ERROR_500:
                return _error(500, "internal", "an unknown error occurred")
            case Fault.ERROR_500_AFTER:
                perform()
                return _error(500, "internal", "an unknown error occurred")
            case Fault.DROP_BEFORE:
                return DroppedConnection()
            case Fault.TIMEOUT_BEFORE:
                return NoAnswer()
            case Fault.DROP_AFTER:
                perform()
                return DroppedConnection()
            case Fault.TIMEOUT_AFTER:
                perform()
                return NoAnswer()
            case Fault.SLOW:
                answer = perform()
                await asyncio.sleep(self._slow)
                return answer
            case None:
                return perform()


def _error(
    status: int, code: str, message: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    document: dict[str, Any] = {"error": {"code": code, "message": message}}
    return JSONResponse(document, status, headers)

"""Serving one request: its faults, its idempotency key, its effect, in one commit."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from steps.sandbox import answers, faults, intents
from steps.sandbox.answers import Answer
from steps.sandbox.faults import Fault, Operation
from steps.sandbox.intents import Request
from steps.sandbox.store import Store

RETRY_AFTER = 1


class Delivery(enum.Enum):
    """What becomes of an answer once the request was served."""

    SENT = "sent"
    DROPPED = "dropped"
    WITHHELD = "withheld"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer and what becomes of it; there may be none when it does not reach the client."""

    answer: Answer | None
    delivery: Delivery = Delivery.SENT


class Service:
    """The provider's operations on payment intents.

    Args:
        store: what is remembered.
        slow: how long a ``slow`` fault takes, in seconds.
    """

    def __init__(self, store: Store, slow: float) -> None:
        self._store = store
        self._slow = slow
        # In memory on purpose: after a restart nothing is in progress.
        self._keys_in_use: set[str] = set()

    async def create(self, request: Request) -> Reply:
        """POST /v1/payment_intents"""
        entries = intents.metadata(request.parameters)
        return await self._serve(
            Operation.CREATE, "", entries, request, lambda: intents.create(self._store, request)
        )

    async def confirm(self, intent_id: str, request: Request) -> Reply:
        """POST /v1/payment_intents/{intent_id}/confirm"""
        return await self._serve_existing(Operation.CONFIRM, intent_id, request, intents.confirm)

    async def cancel(self, intent_id: str, request: Request) -> Reply:
        """POST /v1/payment_intents/{intent_id}/cancel"""
        return await self._serve_existing(Operation.CANCEL, intent_id, request, intents.cancel)

    async def retrieve(self, intent_id: str) -> Reply:
        """GET /v1/payment_intents/{intent_id}"""
        document = self._store.intent(intent_id)
        entries = {} if document is None else document["metadata"]

        def read() -> Answer:
            found = self._store.intent(intent_id)
            return answers.unknown_intent(intent_id) if found is None else answers.success(found)

        return await self._serve(Operation.RETRIEVE, intent_id, entries, Request({}, None), read)

    async def read_many(self, read: Callable[[], Answer]) -> Reply:
        """GET of several intents: ``read`` makes the answer."""
        return await self._serve(Operation.LIST, "", {}, Request({}, None), read)

    async def _serve_existing(
        self,
        operation: Operation,
        intent_id: str,
        request: Request,
        act: Callable[[Store, dict[str, Any], Request], Answer],
    ) -> Reply:
        document = self._store.intent(intent_id)
        if document is None:
            return Reply(answers.unknown_intent(intent_id))

        def perform() -> Answer:
            # Read again: a slow request lets others pass between.
            return act(self._store, self._store.intent(intent_id) or document, request)

        return await self._serve(operation, intent_id, document["metadata"], request, perform)

    async def _serve(
        self,
        operation: Operation,
        intent_id: str,
        entries: dict[str, str],
        request: Request,
        perform: Callable[[], Answer],
    ) -> Reply:
        if request.key is not None and request.key in self._keys_in_use:
            return Reply(answers.key_in_use(request.key))
        with self._key_in_use(request.key):
            fingerprint = _fingerprint(operation, intent_id, request)
            with self._store.transaction():
                fault = self._next_fault(operation, entries)
                if fault is not Fault.SLOW:
                    return self._decide(fault, fingerprint, request.key, perform)
            await asyncio.sleep(self._slow)
            with self._store.transaction():
                return self._decide(None, fingerprint, request.key, perform)

    @contextlib.contextmanager
    def _key_in_use(self, key: str | None) -> Iterator[None]:
        if key is None:
            yield
            return
        self._keys_in_use.add(key)
        try:
            yield
        finally:
            self._keys_in_use.discard(key)

    def _next_fault(self, operation: Operation, entries: dict[str, str]) -> Fault | None:
        saga_id = entries.get("saga_id")
        demanded = self._store.take_fault(operation, saga_id)
        text = entries.get(faults.METADATA_KEY)
        if demanded is not None or text is None or saga_id is None:
            return demanded
        try:
            rules = faults.parse(text)
        except ValueError:
            return None  # creating the intent refuses it, with the reason
        return faults.fault_for(rules, operation, self._store.count_request(saga_id, operation))

    def _decide(
        self, fault: Fault | None, fingerprint: str, key: str | None, perform: Callable[[], Answer]
    ) -> Reply:
        match fault:
            case Fault.RATE_LIMIT:
                return Reply(answers.rate_limited(RETRY_AFTER))
            case Fault.DROP_BEFORE:
                return Reply(None, Delivery.DROPPED)
            case Fault.TIMEOUT_BEFORE:
                return Reply(None, Delivery.WITHHELD)
            case Fault.DROP_AFTER:
                delivery = Delivery.DROPPED
            case Fault.TIMEOUT_AFTER:
                delivery = Delivery.WITHHELD
            case _:
                delivery = Delivery.SENT
        return Reply(self._answer(fault, fingerprint, key, perform), delivery)

    def _answer(
        self, fault: Fault | None, fingerprint: str, key: str | None, perform: Callable[[], Answer]
    ) -> Answer:
        stored = None if key is None else self._store.stored_answer(key)
        if stored is not None:
            if stored.fingerprint != fingerprint:
                return answers.key_with_other_parameters(str(key))
            return replace(stored.answer, headers={"Idempotent-Replayed": "true"})
        if fault is Fault.ERROR_500:
            answer = answers.internal_error()
        else:
            answer = perform()
            if fault is Fault.ERROR_500_AFTER and answer.remember:
                answer = answers.internal_error()
        if key is not None and answer.remember:
            self._store.store_answer(key, fingerprint, answer)
        return answer


def _fingerprint(operation: Operation, intent_id: str, request: Request) -> str:
    asked = [operation.value, intent_id, sorted(request.parameters.items())]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()

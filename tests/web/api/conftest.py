"""The API of a real server on a real database, and one client for each role."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from steps.payment import payment
from tests.fixtures import fresh_schema
from tests.sql.engine import Worker
from tests.web.conftest import Served, serving
from tests.web.sagas import ORDER, PURCHASE

ROLES = ("viewer", "starter", "operator")


def line_of(role: str) -> str:
    """The line of the settings for the token ``token-of-<role>``."""
    return f"my-{role}:{role}:{hashlib.sha256(f'token-of-{role}'.encode()).hexdigest()}"


TOKENS = " ".join(map(line_of, ROLES))
OWN_ROUTES = "steps.payment_routes:routes, tests.web.api.own_routes:routes"


class ApiClient:
    """Calls the API with a token, or without."""

    def __init__(self, base: str, role: str | None = None, **headers: str) -> None:
        if role is not None:
            headers["Authorization"] = f"Bearer token-of-{role}"
        self.http = httpx.Client(base_url=base, headers=headers, timeout=20)

    def get(self, path: str, **query: Any) -> httpx.Response:
        return self.http.get(f"/api{path}", params=query or None)

    def post(
        self, path: str, body: Any = None, *, key: str | None = None, **headers: str
    ) -> httpx.Response:
        if key is not None:
            headers["Idempotency-Key"] = key
        return self.http.post(f"/api{path}", json=body, headers=headers)

    def start(self, key: str, type_: str = "order", **given: Any) -> str:
        """Starts a saga; returns its id."""
        answer = self.post(f"/sagas/{type_}", given, key=key)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])


def problem_of(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """The problem that an answer is, which has all that RFC 9457 names."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    told: dict[str, Any] = answer.json()
    assert told["type"] == f"/api#{slug}"
    assert told["status"] == status
    assert told["instance"] == answer.request.url.path
    assert told["title"]
    assert told["detail"]
    return told


@pytest.fixture(scope="package")
def api(postgres_dsn: str) -> Iterator[Served]:
    """A server with tokens, for all tests of this folder; the types of the pages' tests, and the
    payment."""
    with (
        fresh_schema(postgres_dsn) as schema,
        serving(schema, tokens=TOKENS, routes=OWN_ROUTES, login_attempts=100_000) as running,
    ):
        running.engine.register(ORDER, PURCHASE, payment)
        yield running


@pytest.fixture(scope="package")
def viewer(api: Served) -> ApiClient:
    return ApiClient(api.base, "viewer")


@pytest.fixture(scope="package")
def starter(api: Served) -> ApiClient:
    return ApiClient(api.base, "starter")


@pytest.fixture(scope="package")
def operator(api: Served) -> ApiClient:
    return ApiClient(api.base, "operator")


def put_aside(api: Served) -> None:
    """Keeps what other tests left from being claimed."""
    api.engine.execute("update outbox set due_at = 'infinity' where worker is null")


@pytest.fixture
def worker(api: Served) -> Iterator[Worker]:
    """Runs what a test started of type order, and nothing that is left of others."""
    put_aside(api)
    made = api.engine.worker("order", lease=timedelta(hours=1))
    yield made
    made.deregister()

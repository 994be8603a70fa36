"""The description is true: to the routes, and to what the server does with whatever is sent."""

from __future__ import annotations

import contextlib
import re
from typing import Any
from uuid import uuid4

import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as effort
from hypothesis.errors import Unsatisfiable
from jsonschema import Draft202012Validator
from schemathesis import GenerationMode

from outbox.settings import Settings
from outbox.web.api.problem import KINDS
from outbox.web.app import make_app
from tests.web.api.conftest import TOKENS, ApiClient
from tests.web.conftest import Served, serving, web_settings


def test_the_description_has_what_is_served_and_nothing_else(
    api: Served, viewer: ApiClient
) -> None:
    told = viewer.get("/openapi.json").json()
    assert told["openapi"].startswith("3.1")
    types = {"order", "payment", "purchase"}
    described = {
        (method.upper(), path)
        for path, methods in told["paths"].items()
        for method in methods
        if path.removeprefix("/api/sagas/") not in types | {"single", "moving"}
    }
    served = set()
    for route in api.app.routes:
        if route.path.startswith("/api"):
            served |= {(method, route.path) for method in route.app._operations}
    assert described == served
    for type_ in types:
        schema = told["components"]["schemas"][f"input.{type_}"]
        Draft202012Validator.check_schema(schema)
        reference = told["paths"][f"/api/sagas/{type_}"]["post"]["requestBody"]["content"]
        assert reference["application/json"]["schema"]["$ref"].endswith(f"/input.{type_}")
    payment = told["components"]["schemas"]["input.payment"]
    assert payment["properties"]["amount"]["exclusiveMinimum"] == 0
    for methods in told["paths"].values():
        for one in methods.values():
            assert one["summary"]
            assert ("security" in one) == (one["operationId"] == "get_api")


def test_every_reference_leads_somewhere(viewer: ApiClient) -> None:
    answer = viewer.get("/openapi.json")
    told = answer.json()
    references = set(re.findall(r'"\$ref":"#/([^"]+)"', answer.text))
    assert len(references) > 10
    for reference in references:
        place = told
        for part in reference.split("/"):
            place = place[part]


def test_the_page_tells_people_of_addresses_and_problems(api: Served) -> None:
    page = ApiClient(api.base).get("")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "set-cookie" not in page.headers  # it would end the session of whoever has logged in
    for one in api.app.state.api.operations:
        assert f"<code>{one.path}</code>" in page.text
    for slug in KINDS:
        assert f'id="{slug}"' in page.text
    assert "<style" not in page.text


def test_the_payments_route_goes_with_the_payment(api: Served) -> None:
    schema = api.engine.schema
    for apps, is_there in (("steps.payment:app", True), ("shop:app, steps.payment:app", True),
                           ("shop:app", False)):  # fmt: skip
        settings = Settings(_env_file=None, dsn=schema.dsn, apps=apps)  # type: ignore[call-arg]
        app = make_app(settings, web_settings(tokens=TOKENS), schema.dsn)
        paths = [getattr(route, "path", "") for route in app.routes]
        assert ("/api/payments" in paths) == is_there


def test_behind_a_proxy_all_addresses_are_under_its_path(api: Served) -> None:
    with serving(api.engine.schema, tokens=TOKENS, root_path="/outbox") as there:
        client = ApiClient(there.base, "starter")
        told = client.post("/sagas/order", {}, key="rooted")
        assert told.headers["location"].startswith("/outbox/api/sagas/")
        assert client.post("/sagas/order", {}, key="rooted-2").is_success
        described = client.get("/openapi.json").json()
        assert described["servers"] == [{"url": "/outbox"}]
        assert client.get("/sagas", limit=1).json()["next"].startswith("/outbox/api/sagas?")
        assert client.get("/nothing").json()["type"] == "/outbox/api#not-found"


def test_whatever_is_sent_is_answered_as_described(api: Served) -> None:
    """Property-based: schemathesis makes requests out of the description, valid ones and broken
    ones, and holds each answer against it; anything from 500 on fails."""
    headers = {"Authorization": "Bearer token-of-operator"}
    config = schemathesis.Config.from_dict({"generation": {"allow-x00": False}})  # as Postgres
    schema = schemathesis.openapi.from_url(
        f"{api.base}/api/openapi.json", headers=headers, config=config
    )
    tried = set()
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path == "/api/broken":
            continue  # on purpose
        tried.add(operation.label)
        for mode in GenerationMode:
            fuzz(operation, mode, headers)
    assert len(tried) > 20


def fuzz(operation: Any, mode: GenerationMode, headers: dict[str, str]) -> None:
    @effort(
        max_examples=5,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def sends(case: Any) -> None:
        if mode == GenerationMode.POSITIVE:
            # What is only right together with something that was sent or told before.
            (case.query or {}).pop("cursor", None)
            if "Idempotency-Key" in (case.headers or {}):
                case.headers["Idempotency-Key"] = str(uuid4())
        answer = case.call(headers=headers)
        if "64-bit" not in answer.text:  # a number that no description can exclude
            case.validate_response(answer, headers=headers)

    with contextlib.suppress(Unsatisfiable):  # nothing can be wrong where nothing is told
        sends()

"""Who may use the API."""

from __future__ import annotations

import re

import pytest

from outbox.errors import ConfigurationError, InputError
from outbox.web.api.operation import Operation
from outbox.web.api.tokens import ROLES, Tokens, load_tokens, new_token
from tests.web.api.conftest import TOKENS, ApiClient, line_of, problem_of
from tests.web.conftest import Browser, Served, serving, web_settings

NOBODYS = "00000000-0000-7000-8000-000000000000"


def test_every_address_asks_for_a_token_with_its_role(api: Served) -> None:
    clients = {role: ApiClient(api.base, role) for role in ROLES}
    nobody = ApiClient(api.base)
    wrong = ApiClient(api.base, Authorization="Bearer token-of-nobody")
    found: list[Operation] = api.app.state.api.operations
    assert len(found) > 20
    for one in found:
        path = re.sub(r"\{\w+\}", NOBODYS, one.path)
        if one.role is None:
            assert nobody.http.request(one.method, path).status_code == 200
            continue
        missing = nobody.http.request(one.method, path)
        problem_of(missing, 401, "unauthorized")
        assert missing.headers["www-authenticate"].startswith("Bearer")
        for role, client in clients.items():
            if path.endswith("/events"):
                continue
            answer = client.http.request(one.method, path)
            if ROLES.index(role) < ROLES.index(one.role):
                told = problem_of(answer, 403, "forbidden")
                assert one.role in told["detail"]
                assert "insufficient_scope" in answer.headers["www-authenticate"]
            else:
                assert answer.status_code not in (401, 403), (one.method, path, answer.text)
    refused = wrong.get("/sagas")
    problem_of(refused, 401, "unauthorized")
    assert "invalid_token" in refused.headers["www-authenticate"]


def test_neither_cookies_nor_other_schemes_are_taken_for_a_token(api: Served) -> None:
    ann = Browser(api.base)
    assert ann.log_in("ann").status_code == 303
    for cookie in ann.http.cookies.jar:
        sent = {"Cookie": f"{cookie.name}={cookie.value}"}
        answer = ApiClient(api.base, **sent).post("/sagas/order", {}, key="by-cookie")
        problem_of(answer, 401, "unauthorized")
    for sent in ("Basic dG9rZW4tb2Ytb3BlcmF0b3I=", "token-of-operator", "Bearer"):
        problem_of(ApiClient(api.base, Authorization=sent).get("/sagas"), 401, "unauthorized")
    assert ApiClient(api.base, Authorization="bearer token-of-viewer").get("/sagas").is_success
    assert api.engine.value("select count(*) from instance where key = 'by-cookie'") == 0


def test_wrong_tokens_are_limited_and_right_ones_are_not(api: Served) -> None:
    with serving(api.engine.schema, tokens=TOKENS, login_attempts=1) as strict:
        wrong = ApiClient(strict.base, Authorization="Bearer nobodys")
        statuses = [wrong.get("/sagas").status_code for _ in range(6)]
        assert statuses == [401, 401, 401, 401, 429, 429]
        late = wrong.get("/sagas")
        problem_of(late, 429, "too-many-requests")
        assert 1 <= int(late.headers["retry-after"]) <= 300
        assert ApiClient(strict.base, "viewer").get("/sagas").is_success
        refused = [fields for event, fields in strict.events if event == "token_refused"]
        assert refused == [{"address": "127.0.0.1"}] * 4


def test_without_tokens_nobody_gets_in(api: Served) -> None:
    with serving(api.engine.schema) as closed:
        told = problem_of(ApiClient(closed.base, "operator").get("/sagas"), 401, "unauthorized")
        assert "OUTBOX_WEB_TOKENS" in told["detail"]


def test_a_token_is_made_and_known_again(tmp_path) -> None:  # type: ignore[no-untyped-def]
    token, line = new_token("shop", "starter")
    assert len(token) > 40
    assert token not in line
    listed = tmp_path / "tokens"
    listed.write_text(f"# the shop's\n{line}\n\n{line_of('viewer')}\n")
    for settings in (web_settings(tokens=f"{line};{line_of('viewer')}"),
                     web_settings(tokens_file=listed)):  # fmt: skip
        tokens = load_tokens(settings)
        assert len(tokens) == 2
        found = tokens.find(token)
        assert found is not None
        assert (found.name, found.role, found.may("viewer"), found.may("operator")) == (
            "shop", "starter", True, False,
        )  # fmt: skip
        assert tokens.find(token[:-1]) is None
        assert tokens.find("") is None
    assert Tokens([]).find(token) is None
    for name, role in (("a:b", "viewer"), ("", "viewer"), ("shop", "admin")):
        with pytest.raises(InputError, match=re.escape(repr(name if role != "admin" else role))):
            new_token(name, role)


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        ("ob_secret", "not of the form name:role:hash"),
        ("shop:starter", "not of the form"),
        ("shop:admin:" + "0" * 64, "viewer, starter, operator"),
        ("shop:starter:ob_secret", "no SHA-256"),
        (f"{line_of('viewer')} {line_of('viewer')}", "two tokens are called"),
    ],
)
def test_a_wrong_line_is_told_without_its_secret(tokens: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as refused:
        load_tokens(web_settings(tokens=tokens))
    assert "ob_secret" not in str(refused.value)


def test_a_file_that_is_not_there_is_told(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigurationError, match="OUTBOX_WEB_TOKENS_FILE"):
        load_tokens(web_settings(tokens_file=tmp_path / "none"))

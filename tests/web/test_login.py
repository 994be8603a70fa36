"""Who gets in, and who does not."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from starlette.routing import Mount, Route

from outbox.errors import ConfigurationError, InputError
from outbox.web.accounts import Account, Accounts, User, hash_password, load_accounts
from outbox.web.address import sender_of
from outbox.web.pages.route import inside
from outbox.web.pages.routes import routes
from outbox.web.session import Sessions
from outbox.web.settings import load_web_settings
from outbox.web.throttle import Throttle
from tests.fixtures import fresh_schema
from tests.web.conftest import HASH, KEY, PASSWORD, Browser, Served, serving, text_of, web_settings


def pages() -> list[tuple[str, str]]:
    """Every route of the dashboard, with its method."""
    found: list[tuple[str, str]] = []
    for mount in routes():
        if isinstance(mount, Mount) and mount.path == "/admin":
            for route in mount.routes:
                assert isinstance(route, Route)
                method = "POST" if "POST" in (route.methods or ()) else "GET"
                found.append((method, route.path))
    return [(m, p) for m, p in found if p not in ("/", "/login", "/{rest:path}")]


def address(path: str) -> str:
    filled = path.replace("{view}", "sagas").replace("{type}", "order").replace("{act}", "retry")
    return "/admin" + filled.replace("{id}", "01900000-0000-7000-8000-000000000000")


OPEN = {("POST", "/logout"), ("POST", "/theme")}


@pytest.mark.parametrize(("method", "path"), pages())
def test_nobody_gets_in_without_logging_in(served: Served, method: str, path: str) -> None:
    browser = served.browser()
    answer = browser.http.request(method, address(path), data={"csrf": "guessed", "note": "x"})
    if (method, path) in OPEN:
        assert answer.status_code == 403
    else:
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/admin/login")


@pytest.mark.parametrize(("method", "path"), [one for one in pages() if one[0] == "POST"])
def test_no_form_is_taken_without_its_token(operator: Browser, method: str, path: str) -> None:
    for token in (
        {},
        {"csrf": ""},
        {"csrf": "guessed"},
        {"csrf": Browser(str(operator.http.base_url)).token()},
    ):
        answer = operator.http.post(address(path), data={"note": "x", **token})
        assert answer.status_code == 403, token
        assert "nothing was changed" in text_of(answer)


@pytest.mark.parametrize(
    ("method", "path"), [one for one in pages() if one[0] == "POST" and one not in OPEN]
)
def test_a_viewer_can_do_nothing(viewer: Browser, method: str, path: str) -> None:
    answer = viewer.http.post(address(path), data={"csrf": viewer.token("/sagas"), "note": "x"})
    assert answer.status_code == 403
    assert "you are a viewer" in text_of(answer)


def test_logging_in_and_out(served: Served) -> None:
    browser = served.browser()
    asked = browser.get("/workers")
    assert asked.headers["location"] == "/admin/login?next=%2Fadmin%2Fworkers"
    before = browser.http.cookies.get("outbox_session")
    answer = browser.post(
        "/login", page="/login", name="vera", password=PASSWORD, next="/admin/workers"
    )
    assert (answer.status_code, answer.headers["location"]) == (303, "/admin/workers")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Path=/admin" in cookie
    assert browser.http.cookies.get("outbox_session") != before
    page = browser.get("/workers")
    assert page.status_code == 200
    assert "vera" in text_of(page)
    stolen = browser.http.cookies.get("outbox_session")
    browser.post("/logout", page="/workers")
    assert browser.get("/workers").status_code == 303
    browser.http.cookies.set("outbox_session", stolen or "", path="/admin")
    assert browser.get("/workers").status_code == 303, "a copy of the cookie has ended as well"


def test_a_forged_cookie_is_none(served: Served) -> None:
    for forged in ("", "x", "WyJhbm4iLCJuIiw5OTk5OTk5OTk5LCIiXQ.c2ln", "ann", "a.b.c"):
        browser = served.browser()
        browser.http.cookies.set("outbox_session", forged, path="/admin")
        assert browser.get("/sagas").status_code == 303


def test_a_refusal_does_not_say_whether_there_is_such_a_user(served: Served) -> None:
    wrong, unknown = (served.browser().log_in(name, "wrong") for name in ("vera", "nobody"))
    assert wrong.status_code == unknown.status_code == 401
    said = [text_of(answer) for answer in (wrong, unknown)]
    assert said[0] == said[1]
    assert "The name or the password is wrong." in said[0]


def test_passwords_can_be_tried_a_few_times_only(postgres_dsn: str) -> None:
    with fresh_schema(postgres_dsn) as schema, serving(schema, login_attempts=3) as served:
        assert [served.browser().log_in("ann", "wrong").status_code for _ in range(3)] == [401] * 3
        refused = served.browser().log_in("ann")
        assert refused.status_code == 429, "the right one is not tried either"
        assert 0 < int(refused.headers["retry-after"]) <= 300
        assert served.browser().log_in("vera").status_code == 303
        # Only the proxy's own line says where it comes from.
        for number in range(4):
            browser, proxy = served.browser(), {"X-Forwarded-For": "192.0.2.1"}
            lines = [("X-Forwarded-For", f"198.51.100.{number}"), *proxy.items()]
            form = {"csrf": browser.token(), "name": "ann", "password": "wrong"}
            answer = browser.http.post("/admin/login", data=form, headers=lines)
            assert answer.status_code == (401 if number < 3 else 429)
        for number in range(4):  # one host has as many addresses of IPv6
            browser, proxy = served.browser(), {"X-Forwarded-For": f"2001:db8::{number}"}
            form = {"csrf": browser.token(), "name": "ann", "password": "wrong"}
            answer = browser.http.post("/admin/login", data=form, headers=proxy)
            assert answer.status_code == (401 if number < 3 else 429)
        # What an address may try in all, whatever the names.
        codes = [served.browser().log_in(f"user{n}", "wrong").status_code for n in range(10)]
        assert codes[-1] == 429
        told = {event for event, _ in served.events}
        assert {"login_refused", "login_throttled", "logged_in"} <= told
        assert PASSWORD not in repr(served.events)


def test_a_trusted_proxy_says_who_it_is(postgres_dsn: str) -> None:
    header = {"X-User": "zoe", "X-Groups": "staff, ops"}
    roles = {"ops": "operator", "*": "viewer"}
    settings: dict[str, Any] = {"proxy_header": "X-User", "proxy_role_header": "X-Groups"}
    with (
        fresh_schema(postgres_dsn) as schema,
        serving(schema, users="", proxy_roles=roles, **settings) as served,
    ):
        assert "zoe operator" in text_of(Browser(served.base, **header).get("/sagas"))
        staff = Browser(served.base, **{"X-User": "max", "X-Groups": "staff"})
        assert "max viewer" in text_of(staff.get("/sagas"))
        assert staff.post("/schedules/drop", name="x").status_code == 403
        acting = Browser(served.base, **header).post("/schedules/drop", name="x", note="n")
        assert acting.status_code == 404, "an operator's act, on a schedule that there is not"
        assert Browser(served.base).get("/sagas").status_code == 303
        # Who has written his own header before the proxy's line is nobody.
        twice = [("X-User", "mallory"), ("X-User", "max"), ("X-Groups", "ops")]
        assert httpx.get(f"{served.base}/admin/sagas", headers=twice).status_code == 303
        twice = [("X-User", "max"), ("X-Groups", "ops"), ("X-Groups", "staff")]
        assert "max viewer" in text_of(httpx.get(f"{served.base}/admin/sagas", headers=twice))
    with (
        fresh_schema(postgres_dsn) as schema,
        serving(schema, proxy_roles=roles, proxy_addresses="10.0.0.0/8", **settings) as served,
    ):
        assert Browser(served.base, **header).get("/sagas").status_code == 303, "not from there"


def test_a_header_is_not_believed_unless_a_setting_says_so(served: Served) -> None:
    assert Browser(served.base, **{"X-Forwarded-User": "ann"}).get("/sagas").status_code == 303


def test_a_session_ends_with_its_time_its_user_and_its_password() -> None:
    now = [1000.0]
    ann = Account(User("ann", "operator"), HASH)
    sessions = Sessions(KEY, 60, Accounts({"ann": ann}), lambda: now[0])
    cookie = sessions.write(sessions.of(ann))
    session = sessions.read(cookie)
    assert session is not None
    assert sessions.account_of(session) == ann
    gone = Sessions(KEY, 60, Accounts({}), lambda: now[0])
    changed = Sessions(
        KEY, 60, Accounts({"ann": Account(ann.user, hash_password("another one"))}), lambda: now[0]
    )
    other_key = Sessions("j" * 40, 60, Accounts({"ann": ann}), lambda: now[0])
    for elsewhere in (gone, changed, other_key):
        assert elsewhere.read(cookie) is None
    lowered = Sessions(
        KEY, 60, Accounts({"ann": Account(User("ann", "viewer"), HASH)}), lambda: now[0]
    )
    found = lowered.read(cookie)
    assert found is not None
    account = lowered.account_of(found)
    assert account is not None
    assert account.user.role == "viewer"
    # What nobody is in by, and anybody can have, is not kept.
    sessions.end(sessions.anonymous())
    assert not sessions._ended
    now[0] += 61
    assert sessions.read(cookie) is None


@pytest.mark.parametrize(
    ("address", "sender"),
    [("192.0.2.7", "192.0.2.7"), ("2001:db8:0:1:2::3", "2001:db8:0:1::/64"),
     ("::ffff:192.0.2.7", "192.0.2.7"), ("fe80::1%eth0", "fe80::/64"), ("", ""), ("x", "x")],
)  # fmt: skip
def test_a_host_is_one_sender(address: str, sender: str) -> None:
    assert sender_of(address) == sender


def test_a_throttle_lets_tries_in_as_its_window_slides() -> None:
    now = [0.0]
    throttle = Throttle(2, 10, lambda: now[0])
    assert [throttle.take("a") for _ in range(3)] == [0, 0, 10]
    assert throttle.take("b") == 0
    now[0] = 9
    assert throttle.take("a") == 1
    now[0] = 11
    assert throttle.take("a") == 0
    throttle.forget("a")
    assert throttle.take("a") == 0
    throttle.give_back("a")
    assert [throttle.take("a") for _ in range(3)] == [0, 0, 10]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("/admin/sagas?type=a", "/admin/sagas?type=a"),
        ("https://evil.example/", None),
        ("//evil.example/", None),
        ("/\\evil.example", None),
        ("/a\\..\\b", None),
        ("/admin\n/x", None),
        ("javascript:alert(1)", None),
        ("", None),
        (None, None),
    ],
)
def test_one_is_sent_to_pages_of_this_host_only(given: str | None, kept: str | None) -> None:
    assert inside(given) == kept


@pytest.mark.parametrize(
    ("users", "said"),
    [
        ("", "nobody can log in"),
        ("ann", "user 1 of OUTBOX_WEB_USERS is not of the form name:role:hash"),
        (f"ann:king:{HASH}", "'ann': the role is viewer or operator"),
        ("ann:viewer:secret", "no Argon2 hash"),
        (f"ann:viewer:{HASH}; ann:operator:{HASH}", "two users are called 'ann'"),
    ],
)
def test_impossible_users_are_refused(users: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load_accounts(web_settings(users=users))
    assert said in str(refused.value)
    assert HASH not in str(refused.value)
    assert "secret" not in str(refused.value)


def test_users_come_from_a_file_too(tmp_path: Any) -> None:
    file = tmp_path / "users"
    file.write_text(f"# who may look\n\nbob:viewer:{HASH}\n")
    accounts = load_accounts(web_settings(users_file=file))
    assert [bool(accounts.find(name)) for name in ("ann", "bob", "nobody")] == [True, True, False]
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_accounts(web_settings(users_file=tmp_path / "none"))


def test_settings_say_what_is_wrong_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="bin/web secret-key"):
        _ = web_settings(secret_key=None).signing_key
    with pytest.raises(ConfigurationError, match="has 5 characters") as short:
        _ = web_settings(secret_key="short").signing_key
    assert "'short'" not in str(short.value)
    for name, value in (("PORT", "x"), ("PROXY_ROLES", "ann"), ("PROXY_ADDRESSES", "here")):
        with monkeypatch.context() as changed:
            changed.setenv(f"OUTBOX_WEB_{name}", value)
            with pytest.raises(ConfigurationError, match="(?i)" + name):
                load_web_settings()
    with pytest.raises(InputError, match="8 to 1024"):
        hash_password("short")

"""Every page, with sagas in every condition and without any."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from tests.fixtures import fresh_schema
from tests.waiting import wait_until
from tests.web.conftest import Browser, Served, serving, text_of
from tests.web.sagas import ORDER
from tests.web.world import MARKUP, SECRETS, make_world

LISTS = (
    "/sagas",
    "/interventions",
    "/interventions/past",
    "/types",
    "/health",
    "/workers",
    "/schedules",
)


@pytest.fixture(scope="module")
def world(served: Served) -> SimpleNamespace:
    return make_world(served.engine)


def rows_of(answer: httpx.Response) -> dict[str, str]:
    """Of a list its sagas' statuses, in the order in which they stand there."""
    found = re.findall(
        r'class="saga-row"[^>]* data-id="([^"]+)" data-status="([^"]+)"', answer.text
    )
    return dict(found)


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))


def elements_of(answer: httpx.Response) -> list[tuple[str, dict[str, str]]]:
    """The page's elements, as a browser would read them, with their attributes."""
    parser = _Elements()
    parser.feed(answer.text)
    return parser.found


def test_every_page_is_there_and_says_what_it_may_not_do(
    operator: Browser, viewer: Browser, world: SimpleNamespace
) -> None:
    sagas = [f"/sagas/{saga}" for saga in vars(world).values() if not hasattr(saga, "id")]
    paths = [*LISTS, *sagas, "/types/order", "/types/purchase?span=7d", "/types/purchase?span=1h"]
    for browser in (operator, viewer):
        for path in paths:
            answer = browser.get(path)
            assert answer.status_code == 200, (path, text_of(answer))
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "same-origin"
            assert "frame-ancestors 'none'" in policy
            assert answer.headers["cache-control"] == "no-store"
            elements = elements_of(answer)
            for name, attributes in elements:
                # Nothing that the policy would not let run, and nothing from elsewhere.
                assert not [a for a in attributes if a == "style" or a.startswith("on")], path
                assert name not in ("style", "iframe", "object"), path
                assert name != "script" or attributes["src"].startswith("/admin/static/"), path
                for link in ("src", "href", "action"):
                    assert attributes.get(link, "/").startswith(("/admin", "/", "#")), path
                    assert not attributes.get(link, "/").startswith("//"), path
            ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
            assert len(ids) == len(set(ids)), (path, sorted(i for i in ids if ids.count(i) > 1))


def test_a_failure_says_what_it_may_not_do_either(
    served: Served, viewer: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served.site, "_living", None)
    answer = viewer.get("/sagas")
    assert answer.status_code == 500
    assert "Something went wrong" in text_of(answer)
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_no_redirect_goes_where_the_header_host_says(served: Served) -> None:
    for path in ("/api/sagas/", "/metrics/", "//evil.example/", "/admin/static/"):
        answer = httpx.get(f"{served.base}{path}", headers={"Host": "evil.example"})
        assert answer.status_code == 404, path
        assert "evil" not in str(answer.headers)


def test_markup_is_shown_as_text(operator: Browser, world: SimpleNamespace) -> None:
    for path in (
        f"/sagas/{world.marked}",
        f"/sagas/{world.failed}",
        "/sagas",
        "/schedules",
        "/health",
    ):
        answer = operator.get(path)
        assert "<script>alert" not in answer.text, path
        assert "<img src" not in answer.text, path
        assert "alert" in text_of(answer), path
    assert MARKUP in text_of(operator.get(f"/sagas/{world.marked}"))
    assert MARKUP in text_of(operator.get("/sagas", q=MARKUP))


def test_secrets_are_masked(operator: Browser, viewer: Browser, world: SimpleNamespace) -> None:
    whole = ""
    sagas = [f"/sagas/{saga}" for saga in (world.completed, world.failed, world.marked)]
    paths = [*LISTS, *sagas, f"/sagas/{world.marked}/acts", "/types/purchase", "/types/order"]
    for browser in (operator, viewer):
        for path in paths:
            answer = browser.get(path)
            for secret in SECRETS:
                assert secret not in answer.text, (path, secret)
            whole += answer.text
    assert "••••••" in whole
    assert "shelf" in whole, "what is not secret is shown"


def test_a_saga_tells_all_of_itself(operator: Browser, world: SimpleNamespace) -> None:
    failed = operator.get(f"/sagas/{world.failed}")
    said = text_of(failed)
    for words in ("failed-1", "FAILED", "charge: rejected", "undo of reserve: done", "Run anew",
                  "it has ended: it is FAILED", "Declined"):  # fmt: skip
        assert words in said, words
    assert '<svg class="diagram' in failed.text
    assert '<svg class="gantt"' in failed.text
    assert 'class="d-box s-undone"' in failed.text
    assert 'class="d-box s-failed"' in failed.text
    assert 'class="d-box s-none"' in failed.text, "what was not reached"
    marked = operator.get(f"/sagas/{world.marked}")
    assert "side by side" in marked.text
    assert "approved" in text_of(marked)
    running = text_of(operator.get(f"/sagas/{world.running}"))
    assert "hold runs" in running
    created = text_of(operator.get(f"/sagas/{world.created}"))
    assert "Paused" in created
    assert "hold it" in created


def test_the_list_is_filtered(operator: Browser, world: SimpleNamespace) -> None:
    everything = rows_of(operator.get("/sagas"))
    assert len(everything) == 6
    assert list(everything) == sorted(everything, reverse=True), "the newest first"
    for query, wanted in (
        ({"status": "SUSPENDED"}, {world.suspended}),
        ({"status": "failed"}, {world.failed}),
        ({"type": "purchase"}, {world.marked, world.running, world.created}),
        ({"type": "order", "status": "COMPLETED"}, {world.completed}),
        ({"state": "HELD"}, {world.marked}),
        ({"step": "mail"}, {world.suspended}),
        ({"error": "Declined"}, {world.failed}),
        ({"q": "stopped-1"}, {world.suspended}),
        ({"q": "stop"}, {world.suspended}),
        ({"q": str(world.failed)}, {world.failed}),
        ({"q": "stop", "type": "purchase"}, set()),
        ({"age": "<1h"}, {*map(str, everything)}),
        ({"age": ">1h"}, set()),
    ):
        answer = operator.get("/sagas", **query)
        assert {*rows_of(answer)} == {str(saga) for saga in wanted}, query
        if not wanted:
            assert "No saga fits" in text_of(answer)
    both = operator.http.get("/admin/sagas?status=FAILED&status=COMPLETED")
    assert {*rows_of(both)} == {str(world.failed), str(world.completed)}
    # What is counted is counted once a second, for all who look.
    tile = re.compile(r'tile s-suspended" href="[^"]+"[^>]*><b>1</b>')
    wait_until(lambda: tile.search(operator.get("/sagas").text))


@pytest.mark.parametrize(
    ("path", "code", "said"),
    [
        ("/sagas?status=LOST", 400, "'LOST' is no status"),
        ("/sagas?age=old", 400, "'old' is no age"),
        ("/sagas?before=x", 400, "'x' is no place"),
        ("/sagas/x", 404, "'x' is not the id of a saga"),
        ("/sagas/01900000-0000-7000-8000-000000000000", 404, "no saga has the id"),
        ("/types/nothing", 404, "no saga type 'nothing'"),
        ("/types/order?span=9y", 400, "'9y' is no span"),
        ("/interventions?after=x", 400, "'x' is no place"),
        ("/interventions/past?words=a%00b", 400, "NUL"),
        ("/sagas?q=a%00b", 200, "No saga fits"),
        ("/sagas?type=a%00b", 400, "cannot be"),
        ("/live/nothing", 404, "no page is called 'nothing'"),
        ("/nothing", 404, "There is no page /admin/nothing"),
        ("/sagas/a/b/c", 404, "There is no page"),
    ],
)
def test_what_cannot_be_is_said(operator: Browser, path: str, code: int, said: str) -> None:
    answer = operator.http.get("/admin" + path)
    assert answer.status_code == code, text_of(answer)
    assert said in text_of(answer)
    assert "Traceback" not in answer.text


def test_pages_lead_through_all_sagas(postgres_dsn: str) -> None:
    with fresh_schema(postgres_dsn) as schema, serving(schema) as served:
        served.engine.register(ORDER)
        served.engine.execute(
            "select start('order', '{}', 'many-' || n) from generate_series(1, 120) as n"
        )
        browser = served.browser("vera")
        seen: list[str] = []
        path: str | None = "/admin/sagas?type=order"
        while path is not None:
            answer = browser.http.get(path)
            seen += rows_of(answer)
            older = re.search(r'rel="next" href="([^"]+)"', answer.text)
            path = older[1].replace("&amp;", "&") if older else None
        assert len(seen) == len(set(seen)) == 120
        assert seen == sorted(seen, reverse=True)


@pytest.fixture(scope="module")
def empty(postgres_dsn: str) -> Iterator[Served]:
    with fresh_schema(postgres_dsn) as schema, serving(schema) as served:
        yield served


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/sagas", "There are no sagas yet"),
        ("/interventions", "Nothing waits for a person"),
        ("/interventions/past", "Nobody has decided anything yet"),
        ("/types", "No type is registered"),
        ("/health", "All is well"),
        ("/workers", "No worker runs"),
        ("/schedules", "No schedules"),
    ],
)
def test_an_empty_page_says_what_to_do(empty: Served, path: str, said: str) -> None:
    for name in ("ann", "vera"):
        answer = empty.browser(name).get(path)
        assert answer.status_code == 200
        assert said in text_of(answer)


def test_files_are_kept_for_good_and_change_their_address(served: Served, viewer: Browser) -> None:
    page = viewer.get("/sagas").text
    for name in ("style.css", "live.js", "icon.svg"):
        address = re.search(rf'"(/admin/static/{name}\?v=[0-9a-f]+)"', page)
        assert address, name
        answer = served.browser().http.get(address[1])
        assert answer.status_code == 200, "before logging in, too"
        assert "immutable" in answer.headers["cache-control"]
    assert served.browser().http.get("/admin/static/../app.py").status_code == 404
    assert served.browser().http.get("/admin/static/%2e%2e/app.py").status_code == 404


def test_the_theme_is_the_visitors(served: Served) -> None:
    browser = served.browser("vera")
    for theme in ("dark", "light", "auto"):
        answer = browser.post("/theme", theme=theme, back="/admin/types")
        assert answer.headers["location"] == "/admin/types"
        assert f'data-theme="{theme}"' in browser.get("/types").text
    assert browser.post("/theme", theme="pink").status_code == 400
    elsewhere = browser.post("/theme", theme="dark", back="//evil.example")
    assert elsewhere.headers["location"] == "/admin/sagas"


def test_it_is_served_under_a_path_of_a_proxy(postgres_dsn: str) -> None:
    with fresh_schema(postgres_dsn) as schema, serving(schema, root_path="/tools/outbox") as served:
        page = served.browser().get("/login").text
        assert 'action="/tools/outbox/admin/login"' in page
        assert 'href="/tools/outbox/admin/static/style.css' in page


def test_what_stands_beside_a_link_keeps_no_page_waiting(postgres_dsn: str) -> None:
    with fresh_schema(postgres_dsn) as schema, serving(schema) as served:
        served.engine.register(ORDER)
        ann = served.browser("ann")
        with schema.connect(autocommit=False) as other:
            other.execute("lock table delivery in access exclusive mode")  # which health reads
            assert ann.get("/sagas").status_code == 200


def test_a_database_that_is_away_is_said_and_comes_back(
    server_factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = server_factory()
    with fresh_schema(server.dsn) as schema, serving(schema) as served:
        browser = served.browser("vera")
        assert browser.get("/sagas").status_code == 200
        served.engine.connection.close()
        server.stop()
        away = browser.get("/sagas")
        assert away.status_code == 503
        assert "The database cannot be reached" in text_of(away)
        server.start()
        assert browser.get("/sagas").status_code == 200

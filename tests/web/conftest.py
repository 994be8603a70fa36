"""The dashboard, served by a real server on a real database, and browsers without a screen."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import unescape
from typing import Any

import httpx
import pytest
import uvicorn
from argon2 import PasswordHasher

from outbox.settings import Settings
from outbox.telemetry import Telemetry
from outbox.web.app import make_app
from outbox.web.settings import WebSettings
from outbox.web.site import Site
from tests.fixtures import Schema, fresh_schema
from tests.sql.engine import Engine
from tests.waiting import wait_until
from tests.web.sagas import ORDER, PURCHASE

PASSWORD = "correct horse"
# Argon2 as in earnest, only with less work for the tests.
_HASHER = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
# With a salt that all processes of a test run share, since tests are named by it.
HASH = _HASHER.hash(PASSWORD, salt=b"salt of the tests")
KEY = "k" * 40


class Browser:
    """Keeps cookies as a browser does, and reads pages."""

    def __init__(self, base: str, **headers: str) -> None:
        self.http = httpx.Client(base_url=base, headers=headers, timeout=20)

    def get(self, path: str, **query: Any) -> httpx.Response:
        return self.http.get(f"/admin{path}", params=query or None)

    def token(self, path: str = "/login") -> str:
        """The token that the forms of a page carry."""
        found = re.search(r'name="csrf" value="([^"]+)"', self.get(path).text)
        assert found, f"no form on {path}"
        return found[1]

    def post(self, path: str, *, page: str = "/sagas", **fields: Any) -> httpx.Response:
        """Sends a form as it stands on a page."""
        return self.http.post(f"/admin{path}", data={"csrf": self.token(page), **fields})

    def log_in(self, name: str, password: str = PASSWORD) -> httpx.Response:
        return self.post("/login", page="/login", name=name, password=password)


@dataclass
class Served:
    """A running dashboard with its database."""

    base: str
    engine: Engine
    site: Site
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    app: Any = None
    server: Any = None

    def browser(self, name: str | None = None, **headers: str) -> Browser:
        """A fresh browser, logged in where a name is given."""
        made = Browser(self.base, **headers)
        if name is not None:
            assert made.log_in(name).status_code == 303
        return made


def web_settings(**changes: Any) -> WebSettings:
    """Settings with a viewer and an operator, and nothing of this machine's."""
    given = {
        "users": f"ann:operator:{HASH} vera:viewer:{HASH}",
        "secret_key": KEY,
        "cookie_secure": False,
        **changes,
    }
    return WebSettings(_env_file=None, **given)


@contextlib.contextmanager
def serving(schema: Schema, **changes: Any) -> Iterator[Served]:
    """Serves the dashboard of a schema."""
    settings = Settings(_env_file=None, dsn=schema.dsn, OUTBOX_SCHEMA=schema.name)  # type: ignore[call-arg]
    events: list[tuple[str, dict[str, Any]]] = []
    telemetry = Telemetry(lambda event, _level, fields: events.append((event, fields)))
    app = make_app(settings, web_settings(**changes), schema.dsn, telemetry)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            app, log_config=None, access_log=False, proxy_headers=False, timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            wait_until(lambda: server.started)
            engine = Engine(schema)
            with contextlib.closing(engine.connection):
                base = f"http://127.0.0.1:{listener.getsockname()[1]}"
                yield Served(base, engine, app.state.site, events, app, server)
        finally:
            server.should_exit = True
            thread.join(timeout=15)
            assert not thread.is_alive(), "the server does not end"


def text_of(answer: httpx.Response) -> str:
    """What a page says: without its markup, with one blank between words."""
    without = re.sub(r"<(script|style|title)\b.*?</\1>|<[^>]+>", " ", answer.text, flags=re.S)
    return " ".join(unescape(without).split())


@pytest.fixture(scope="module")
def served(postgres_dsn: str) -> Iterator[Served]:
    """A dashboard for the tests of a module, with their types registered."""
    with fresh_schema(postgres_dsn) as schema, serving(schema) as running:
        running.engine.register(ORDER, PURCHASE)
        yield running


@pytest.fixture(scope="module")
def operator(served: Served) -> Browser:
    """Ann, who may act."""
    return served.browser("ann")


@pytest.fixture(scope="module")
def viewer(served: Served) -> Browser:
    """Vera, who may look."""
    return served.browser("vera")

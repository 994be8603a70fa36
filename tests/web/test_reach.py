"""A database that is not there: the server stays, says why, and goes on once it is."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from outbox.settings import Settings
from outbox.store.connect import connect
from outbox.store.embedded import EmbeddedServer
from outbox.store.migrate import migrate
from outbox.telemetry import Telemetry
from outbox.web.app import make_app
from tests.conftest import ServerFactory
from tests.waiting import wait_until_async
from tests.web.api.conftest import TOKENS, problem_of
from tests.web.conftest import PASSWORD, web_settings

Events = list[tuple[str, str, dict[str, Any]]]


@pytest.fixture
def server(server_factory: ServerFactory) -> EmbeddedServer:
    """A server that asks the user ``locked`` for a password."""
    server = server_factory()
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("create role locked login password 'hunter2'")
        ((hba,),) = connection.execute("show hba_file").fetchall()
        rules = Path(hba)
        rules.write_text(f"local all locked scram-sha-256\n{rules.read_text()}")
        connection.execute("select pg_reload_conf()")
    return server


@asynccontextmanager
async def reaching(dsn: str) -> AsyncIterator[tuple[httpx.AsyncClient, Events]]:
    """The application on a database, wherever that is, and what it told."""
    settings = Settings(_env_file=None, dsn=dsn)  # type: ignore[call-arg]
    events: Events = []
    telemetry = Telemetry(lambda event, level, fields: events.append((event, level, fields)))
    app = make_app(settings, web_settings(tokens=TOKENS), dsn, telemetry)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://here",
            headers={"Authorization": "Bearer token-of-viewer"},
        ) as client,
    ):
        yield client, events


async def test_why_the_database_cannot_be_used_is_said_once_and_to_who_asks(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outbox.web.site._WAIT", 0.1)
    monkeypatch.setattr("outbox.web.reach._FRESH", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as free:
        closed = free.getsockname()[1]
    host = {**conninfo_to_dict(server.dsn), "password": "swordfish"}
    for dsn, why in (
        (make_conninfo("", **{**host, "host": "nowhere.invalid"}), "failed to resolve host"),
        (make_conninfo("", **{**host, "host": "127.0.0.1", "port": closed}), "Connection refused"),
        (make_conninfo("", **{**host, "user": "locked"}), "password authentication failed"),
        (make_conninfo("", **{**host, "dbname": "nothere"}), 'database "nothere" does not exist'),
        (make_conninfo("", **host), "schema saga is not installed in database outbox"),
    ):
        async with reaching(dsn) as (client, events):
            await wait_until_async(lambda: events)
            told = problem_of(await client.get("/api/health"), 503, "unavailable")["detail"]
            assert why in told
            assert problem_of(await client.get("/api/sagas"), 503, "unavailable")["detail"] == told
            said = [one for one in events if one[0] == "database_unusable"]
            assert [(level, fields["reason"]) for _, level, fields in said] == [("error", told)]
            assert "tried again" in said[0][2]["until_then"]
            assert "\n" not in told
            assert "swordfish" not in str(events) + told
            # Who is not known is told nothing of where it is.
            assert why not in (await client.get("/admin/login")).text


async def test_it_goes_on_when_the_database_comes(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outbox.web.site._WAIT", 0.1)
    monkeypatch.setattr("outbox.web.reach._FRESH", 0.0)
    async with reaching(server.dsn) as (client, events):

        def told(name: str) -> int:
            return [event for event, _, _ in events].count(name)

        await wait_until_async(lambda: told("database_unusable"))
        async with await connect(server.dsn) as connection:
            await migrate(connection, "saga")
        await wait_until_async(lambda: told("database_back"))
        assert (await client.get("/api/health")).status_code == 200

        # Logged in, as a browser is: whoever runs it reads the reason on the page too.
        page = (await client.get("/admin/login")).text
        token = page.split('name="csrf" value="')[1].split('"')[0]
        form = {"csrf": token, "name": "ann", "password": PASSWORD}
        assert (await client.post("/admin/login", data=form)).status_code == 303
        assert (await client.get("/admin/health")).status_code == 200

        server.stop()
        for path in ("/admin/sagas", "/admin/health"):
            away = await client.get(path)
            assert away.status_code == 503
            assert "For whoever runs this: database outbox at" in away.text
        assert told("database_unusable") == 2
        server.start()
        await wait_until_async(lambda: told("database_back") == 2)
        assert (await client.get("/admin/health")).status_code == 200

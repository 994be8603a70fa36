"""Who sends a body slowly, or not to its end, keeps nobody waiting."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from tests.fixtures import fresh_schema
from tests.waiting import wait_until
from tests.web.api.conftest import TOKENS
from tests.web.conftest import Served, serving

FORM = "POST /admin/login HTTP/1.1", "Content-Type: application/x-www-form-urlencoded"
JSON = (
    "POST /api/sagas/order HTTP/1.1",
    "Content-Type: application/json",
    "Authorization: Bearer token-of-starter",
    "Idempotency-Key: slow",
)


@pytest.fixture(scope="module")
def lazy(postgres_dsn: str) -> Iterator[Served]:
    with fresh_schema(postgres_dsn) as schema, serving(schema, tokens=TOKENS) as running:
        yield running


@contextmanager
def sending(served: Served, *lines: str) -> Iterator[socket.socket]:
    """A connection on which a request was begun, whose body is never whole."""
    parts = urlsplit(served.base)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        head = [*lines, f"Host: {parts.netloc}", "Content-Length: 100", "", "n"]
        connection.sendall("\r\n".join(head).encode())
        yield connection


def answer_on(connection: socket.socket) -> str:
    """All that is answered, until the server ends the connection."""
    read = b"".join(iter(lambda: connection.recv(65536), b""))
    return read.decode()


@pytest.mark.parametrize("lines", [FORM, JSON], ids=["form", "api"])
def test_a_body_that_does_not_arrive_is_not_waited_for(
    lazy: Served, monkeypatch: pytest.MonkeyPatch, lines: tuple[str, ...]
) -> None:
    monkeypatch.setattr("outbox.web.body._SECONDS", 0.2)
    with sending(lazy, *lines) as connection:
        said = answer_on(connection)
    assert said.startswith("HTTP/1.1 408 ")
    assert "had 0.2 seconds to arrive" in said
    assert "connection: close" in said.lower()


@pytest.mark.parametrize("lines", [FORM, JSON], ids=["form", "api"])
def test_a_sender_who_goes_is_no_error_of_ours(
    lazy: Served, caplog: pytest.LogCaptureFixture, lines: tuple[str, ...]
) -> None:
    server_tasks = lazy.server.server_state.tasks
    with caplog.at_level(logging.WARNING):
        with sending(lazy, *lines):
            wait_until(lambda: len(server_tasks) == 1)
        wait_until(lambda: not server_tasks)
    assert not caplog.records, caplog.text

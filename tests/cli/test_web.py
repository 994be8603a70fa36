"""``bin/web`` as a program."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import httpx
import orjson
import pytest
from argon2 import PasswordHasher

from tests.cli.conftest import environment
from tests.fixtures import Schema
from tests.payments.world import ROOT
from tests.waiting import wait_until
from tests.web.conftest import Browser

WEB = [sys.executable, "-m", "outbox.cli.web"]


def run(*arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*WEB, *arguments], input=stdin, env=environment(None, **variables), cwd=ROOT,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_it_makes_what_its_settings_need_and_says_what_is_missing(tmp_path: Path) -> None:
    hashed = run("hash-password", stdin="correct horse\n")
    assert hashed.returncode == 0
    assert PasswordHasher().verify(hashed.stdout.strip(), "correct horse")
    assert "8 to 1024" in run("hash-password", stdin="short\n").stderr
    key = run("secret-key").stdout.strip()
    assert len(key) >= 48
    users = f"ann:operator:{hashed.stdout.strip()}"
    for variables, said in (
        ({"OUTBOX_WEB_USERS": users}, "bin/web secret-key"),
        ({"OUTBOX_WEB_SECRET_KEY": key}, "nobody can log in"),
        ({"OUTBOX_WEB_PORT": "http"}, "OUTBOX_WEB_PORT"),
    ):
        refused = run(OUTBOX_DSN="host=nowhere.invalid", **variables)
        assert refused.returncode == 2, refused.stderr
        assert said in refused.stderr
        assert "Traceback" not in refused.stderr


class Server:
    """`bin/web` on a port of its own, and what it writes; ended at the end."""

    def __init__(self, log: Path, variables: dict[str, str]) -> None:
        self.log = log
        with log.open("w") as written:
            self.process = subprocess.Popen(
                [*WEB, "--port", "0"], env=variables, cwd=ROOT, stderr=written
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def told(self, event: str) -> dict[str, Any]:
        """The line of an event, once it is there."""

        def found() -> dict[str, Any] | bool:
            for line in self.log.read_text().splitlines():
                if line.startswith("{") and (told := orjson.loads(line))["event"] == event:
                    return dict(told)
            return self.process.poll() is not None

        line = wait_until(found, 30)
        assert isinstance(line, dict), self.log.read_text()
        return line

    def end(self) -> None:
        """Ends it in order."""
        os.kill(self.process.pid, signal.SIGTERM)
        assert self.process.wait(20) == 0
        assert "Traceback" not in self.log.read_text()


def serving_variables(**more: str) -> dict[str, str]:
    return {
        "OUTBOX_WEB_SECRET_KEY": "k" * 40,
        "OUTBOX_WEB_USERS": f"ann:operator:{PasswordHasher(1, 64, 1).hash('correct horse')}",
        "OUTBOX_LOG_FORMAT": "json",
        **more,
    }


def test_it_serves_until_it_is_told_to_stop(schema: Schema, tmp_path: Path) -> None:
    with Server(tmp_path / "log", environment(schema, **serving_variables())) as server:
        address = server.told("web_started")["address"]
        browser = Browser(address.removesuffix("/admin"))
        assert browser.log_in("ann").status_code == 303
        # Who looks on is sent the end of what he is sent, and nothing is wrong.
        with browser.http.stream("GET", "/admin/live/sagas") as stream:
            lines = stream.iter_lines()
            assert next(line for line in lines if line.startswith("data: "))
            server.end()
            for _ in lines:
                pass  # to its end, or httpx would say that it was broken off
        assert '"level": "error"' not in server.log.read_text()


def test_it_stays_where_the_database_is_not_and_says_so_once(tmp_path: Path) -> None:
    dsn = "postgresql://web:hunter2@127.0.0.1:1/shop"
    variables = environment(None, **serving_variables(OUTBOX_DSN=dsn))
    with Server(tmp_path / "log", variables) as server:
        address = server.told("web_started")["address"]
        reason = server.told("database_unusable")["reason"]
        assert reason.startswith("database shop at 127.0.0.1:1 cannot be used (")
        assert "Connection refused" in reason
        assert httpx.get(f"{address}/login").status_code == 200
        server.end()
        log = server.log.read_text()
        assert log.count("Connection refused") == 1
        assert "hunter2" not in log


def test_it_makes_a_token_that_its_server_knows(schema: Schema) -> None:
    made = run("new-token", "shop", "starter")
    token, line = made.stdout.split()
    assert line == f"shop:starter:{hashlib.sha256(token.encode()).hexdigest()}"
    assert "once" in made.stderr
    refused = run("new-token", "shop", "admin")
    assert refused.returncode == 2
    assert "'admin' is no role: there are viewer, starter, operator" in refused.stderr
    wrong = run(OUTBOX_WEB_SECRET_KEY="k" * 40, OUTBOX_WEB_TOKENS=token)
    assert wrong.returncode == 2
    assert "OUTBOX_WEB_TOKENS" in wrong.stderr
    assert token not in wrong.stderr
    routes = run(
        OUTBOX_WEB_SECRET_KEY="k" * 40, OUTBOX_WEB_TOKENS=line, OUTBOX_WEB_ROUTES="nowhere:routes",
        OUTBOX_DSN=schema.dsn,
    )  # fmt: skip
    assert routes.returncode == 2
    assert "OUTBOX_WEB_ROUTES" in routes.stderr
    assert "Traceback" not in routes.stderr


@pytest.mark.parametrize("argument", ["--help", "hash-password --help"])
def test_help_is_there(argument: str) -> None:
    told = run(*argument.split())
    assert told.returncode == 0
    assert "password" in told.stdout

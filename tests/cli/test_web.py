"""``bin/web`` as a program."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import orjson
import pytest
from argon2 import PasswordHasher

from tests.cli.conftest import environment
from tests.fixtures import Schema
from tests.payments.world import ROOT
from tests.web.conftest import wait_until

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


def test_it_serves_until_it_is_told_to_stop(schema: Schema, tmp_path: Path) -> None:
    log = tmp_path / "log"
    variables = {
        "OUTBOX_WEB_SECRET_KEY": "k" * 40,
        "OUTBOX_WEB_USERS": f"ann:operator:{PasswordHasher(1, 64, 1).hash('correct horse')}",
        "OUTBOX_LOG_FORMAT": "json",
    }
    with log.open("w") as written:
        server = subprocess.Popen(
            [*WEB, "--port", "0"], env=environment(schema, **variables), cwd=ROOT, stderr=written
        )

    def address() -> str | None:
        for line in log.read_text().splitlines():
            if line.startswith("{") and (told := orjson.loads(line))["event"] == "web_started":
                return str(told["address"])
        return None

    try:
        wait_until(lambda: address() or server.poll() is not None, 30)
        found = address()
        assert found is not None, log.read_text()
        assert httpx.get(f"{found}/login").status_code == 200
        with httpx.stream("GET", f"{found}/login"):
            os.kill(server.pid, signal.SIGTERM)
        assert server.wait(20) == 0
        assert "Traceback" not in log.read_text()
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()


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

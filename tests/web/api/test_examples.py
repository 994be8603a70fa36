"""The examples of docs/api.md, as they stand."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from outbox.web.settings import WebSettings
from tests.docs.examples import DOCS, python_blocks
from tests.web.api.conftest import ApiClient
from tests.web.conftest import Served


def test_the_commands_run(api: Served, viewer: ApiClient, tmp_path: Path) -> None:
    blocks = re.findall(r"(?ms)^```sh\n(.*?)^```$", (DOCS / "api.md").read_text())
    assert len(blocks) >= 5
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\necho; echo ---\n".join(blocks)],
        env={"PATH": "/usr/bin:/bin", "API": api.base, "TOKEN": "token-of-operator"},
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    start, payment, found, events, signal, cancel = ran.stdout.split("\n---\n")
    for answer in (start, payment):
        assert '"created":true' in answer
    assert '"outcome":"started"' in found
    assert "event: transition" in events
    assert "None of them waits for a signal" in signal
    assert '"dry_run":true' in cancel
    assert viewer.get("/sagas", key="order-42").json()["sagas"][0]["status"] == "CREATED"


def test_every_setting_of_the_server_is_in_the_documents() -> None:
    named = set(re.findall(r"`OUTBOX_WEB_([A-Z_]+)`", (DOCS / "dashboard.md").read_text()))
    assert named == {name.upper() for name in WebSettings.model_fields}


def test_the_routes_are_routes() -> None:
    (block,) = python_blocks("api.md")
    names: dict[str, object] = {}
    exec(block, names)
    assert [route.path for route in names["routes"]] == ["/api/checkouts"]  # type: ignore[attr-defined]

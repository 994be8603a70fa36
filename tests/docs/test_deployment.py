"""The page about deploying names settings, commands and times that there are, and what is installed
calls itself by its own name."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from outbox.cli.saga import cli
from outbox.cli.shell import as_installed
from outbox.settings import Settings, variables
from tests.cli.conftest import environment
from tests.docs.examples import DOCS
from tests.test_readme import README

PAGE = (DOCS / "deployment.md").read_text()


def test_its_settings_and_commands_are_there() -> None:
    assert set(re.findall(r"OUTBOX_[A-Z_]+", PAGE)) <= set(variables())
    commands = set(typer.main.get_command(cli).commands)  # type: ignore[attr-defined]
    assert {"migrate", "register", "health"} <= set(re.findall(r"outbox-saga ([a-z]+)", PAGE))
    assert set(re.findall(r"outbox-saga ([a-z]+)", PAGE)) <= commands


def test_its_times_leave_a_worker_its_grace() -> None:
    grace = Settings.model_fields["shutdown_grace"].default
    times = re.findall(r"(?:TimeoutStopSec=|GracePeriodSeconds: |stop_grace_period: )(\d+)", PAGE)
    assert len(times) == 3
    assert all(int(time) > grace for time in times)


def test_each_page_is_reached_from_the_readme_or_from_a_page_that_is() -> None:
    pages = {page.name for page in DOCS.glob("*.md")}
    linked = set(re.findall(r"docs/([a-z-]+\.md)", README))
    assert linked == pages, "a page that nobody finds, or a link to none"


@pytest.mark.parametrize("name", ["saga", "worker", "web"])
def test_what_is_installed_goes_by_its_name(tmp_path: Path, name: str) -> None:
    program = Path(sys.executable).with_name(f"outbox-{name}")
    ran = subprocess.run(
        [program, "--help"],
        env=environment(None), cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ran.stdout.strip().startswith(f"Usage: outbox-{name} ")


def test_an_installed_program_names_its_like_in_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "run bin/saga migrate, then bin/worker; not combin/saga"
    assert as_installed(said) == said
    monkeypatch.setattr(sys, "argv", ["/usr/bin/outbox-saga", "list"])
    assert as_installed(said) == "run outbox-saga migrate, then outbox-worker; not combin/saga"

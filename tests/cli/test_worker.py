"""`bin/worker`: its help and its arguments. How it runs is tested in tests/engine."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from outbox.settings import Settings
from tests.cli.conftest import environment
from tests.fixtures import Schema
from tests.payments.world import ROOT


def run(schema: Schema | None, *arguments: str, **variables: str) -> tuple[int, str]:
    ended = subprocess.run(
        [sys.executable, "-m", "outbox.cli.worker", *arguments],
        env=environment(schema, **variables), cwd=ROOT, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "Traceback" not in ended.stdout
    return ended.returncode, ended.stdout


def test_help_tells_every_setting_with_its_default() -> None:
    code, shown = run(None, "--help", COLUMNS="200")
    assert code == 0
    for name, field in Settings.model_fields.items():
        variable = str(field.alias) if field.alias else f"OUTBOX_{name.upper()}"
        assert f"{variable}  (default: " in shown
        assert field.description is not None
        assert field.description in shown


def test_help_does_not_tell_what_is_set() -> None:
    _, shown = run(None, "--help", OUTBOX_DSN="postgresql://a:hunter2@b/c")
    assert "hunter2" not in shown


@pytest.mark.parametrize(
    ("arguments", "variables", "says"),
    [
        (["no.such:app"], {}, "no.such"),
        (["steps.payment"], {}, "module:attribute"),
        (["tests.definition.broken:app"], {}, "ZeroDivisionError"),
        (["tests.cli.app:app", "tests.cli.app:order"], {}, "same version of a saga type"),
        (["--concurrency", "0"], {}, "--concurrency"),
        ([], {"OUTBOX_APPS": " , "}, "OUTBOX_APPS"),
        ([], {"OUTBOX_ALERT_SCHEDULE": "often"}, "OUTBOX_ALERT_SCHEDULE"),
        ([], {"OUTBOX_POLL": "0"}, "OUTBOX_POLL"),
        ([], {"OUTBOX_LISTEN_DSN": "my hunter2"}, "OUTBOX_LISTEN_DSN"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    schema: Schema, arguments: list[str], variables: dict[str, str], says: str
) -> None:
    code, said = run(schema, *arguments, **variables)
    assert code == 2
    assert says in said
    assert "hunter2" not in said


def test_without_the_examples_it_says_what_to_name(tmp_path: Path) -> None:
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps" / "__init__.py").touch()
    (tmp_path / "steps" / "payment.py").write_text("import stripes")
    variables = {k: v for k, v in environment(None).items() if k != "OUTBOX_APPS"}
    ended = subprocess.run(
        [sys.executable, "-c", "from outbox.cli.worker import main; main()"],
        env={**variables, "OUTBOX_DSN": "host=/nowhere", "PYTHONPATH": str(ROOT)}, cwd=tmp_path,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: nothing is named to run: give it as module:app")
    assert "No module named 'stripes'" in ended.stderr


def test_a_setting_that_is_none_is_told(schema: Schema) -> None:
    variables = {"OUTBOX_DNS": "x", "OUTBOX_TABLE": "mine", "OUTBOX_WEB_PORT": "1"}
    _, said = run(schema, "no.such:app", OUTBOX_LOG_FORMAT="json", **variables)
    told = [json.loads(line)["message"] for line in said.splitlines() if line.startswith("{")]
    assert told == [
        "OUTBOX_DNS is no setting, and has no effect; did you mean OUTBOX_DSN?",
        "OUTBOX_TABLE is no setting, and has no effect; bin/worker --help lists them all",
    ]

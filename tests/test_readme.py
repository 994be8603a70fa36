"""The README, run as it stands: its saga, its commands, its Python, its SQL and its settings."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from outbox.settings import Settings
from tests.conftest import ServerFactory
from tests.payments.world import WorkerProcess
from tests.waiting import wait_until

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The code blocks of a language, in order; "" for those without one."""
    found = re.findall(r"(?ms)^```(\w*)\n(.*?)^```$", README)
    return [text for name, text in found if name == language]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The user's directory, with the README's saga in shop.py."""
    (tmp_path / "shop.py").write_text(blocks("python")[0])
    return tmp_path


@pytest.fixture
def environment(server_factory: ServerFactory, directory: Path) -> dict[str, str]:
    """A server of one's own, with the schema that the README takes for granted."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("OUTBOX_")}
    ours = {"OUTBOX_DSN": server_factory().dsn, "PYTHONPATH": f"{ROOT}:{directory}"}
    environment = {**kept, **ours, "OUTBOX_LOG_FORMAT": "json"}
    assert run_saga(environment, directory, "migrate") == 0
    return environment


def run_saga(environment: dict[str, str], directory: Path, *arguments: str) -> int:
    ran = subprocess.run(
        [sys.executable, "-m", "outbox.cli.saga", *arguments],
        env=environment, cwd=directory, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Traceback" not in ran.stderr
    return ran.returncode


def test_its_saga_its_commands_its_python_and_its_sql(
    environment: dict[str, str], directory: Path
) -> None:
    (commands,) = [block for block in blocks("") if "bin/worker shop:app" in block]
    first, *others = [shlex.split(line) for line in commands.splitlines()]
    worker = WorkerProcess(environment, directory / "log", *first[1:])
    try:
        worker.ready()
        codes = [run_saga(environment, directory, *command[1:]) for command in others]
        # The second order is refused: its wait says that it failed.
        assert codes == [0, 0, 0, 0, 1]
        dsn = environment["OUTBOX_DSN"]
        program = f"dsn = {dsn!r}\n{blocks('python')[1]}"
        subprocess.run([sys.executable, "-c", program], env=environment, check=True)
        with psycopg.connect(dsn, autocommit=True) as connection:
            start, look, acts = blocks("sql")
            connection.execute(start.encode())
            done = "select count(*) = 3 from saga.overview where status = 'COMPLETED'"
            wait_until(lambda: (connection.execute(done).fetchone() or [False])[0])
            connection.execute(look.encode())
            assert connection.execute("select * from saga.audit()").fetchall() == []
            sold = connection.execute("select quantity from sale order by 1").fetchall()
            assert sold == [(2,), (3,), (4,)]
            for statement in acts.splitlines():
                # Each is there; the saga has ended, so each is refused.
                with pytest.raises(psycopg.DatabaseError, match="ended"):
                    connection.execute(
                        statement.replace("(id,", "(%s,").encode(),
                        connection.execute("select id from saga.instance limit 1").fetchone(),
                    )
        assert worker.terminate() == 0
    finally:
        if worker.process.poll() is None:
            worker.kill()


def test_every_setting_is_there_with_its_default() -> None:
    told = dict(re.findall(r"(?m)^\| `(OUTBOX_\w+)` \|(?: (.*?))? \| .* \|$", README))
    expected = {}
    for name, field in Settings.model_fields.items():
        variable = str(field.alias) if field.alias else f"OUTBOX_{name.upper()}"
        default = field.get_default(call_default_factory=True)
        if isinstance(default, bool):
            default = str(default).lower()
        elif isinstance(default, float):
            default = f"{default:g}"
        expected[variable] = "" if default is None else f"`{default}`"
    assert told == expected


def test_every_command_is_there() -> None:
    for name in ("migrate", "register", "start", "show", "list", "wait", "retry", "abort",
                 "resolve", "audit", "psql"):  # fmt: skip
        assert f"`{name}" in README

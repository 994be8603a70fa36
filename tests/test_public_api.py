"""What `import outbox` gives, and how it looks to a type checker."""

import os
import subprocess
import sys
from pathlib import Path

import outbox
from tests.docs.examples import DOCS, python_blocks

ROOT = Path(__file__).parents[1]

NAMES = [
    "App", "AppContext", "Client", "Command", "Event", "Happened", "Limit", "NotDone", "Operator",
    "OutboxError", "Rate", "Rejected", "Retry", "RetryAfter", "Rules", "Saga", "SagaStatus",
    "Settings", "Started", "Step", "Subscriber", "Unknown", "database",
]  # fmt: skip


def test_the_public_names_are_these() -> None:
    assert outbox.__all__ == NAMES
    assert all(hasattr(outbox, name) for name in NAMES)


def test_every_public_name_is_documented() -> None:
    undocumented = [name for name in NAMES if not (getattr(outbox, name).__doc__ or "").strip()]
    assert undocumented == []


def test_nothing_is_read_or_connected_at_import() -> None:
    code = "import sys, outbox; print([m for m in sys.modules if m.startswith(('steps', 'typer'))])"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT), "OUTBOX_DSN": "nonsense", "OUTBOX_LEASE": "nonsense"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ran.stdout.strip() == "[]"


def test_a_users_saga_is_typed_and_so_are_the_examples_of_the_pages(tmp_path: Path) -> None:
    pages = [page for page in DOCS.glob("*.md") if python_blocks(page.name)]
    for page in pages:
        text = "\n\n".join(python_blocks(page.name))
        (tmp_path / f"page_{page.stem.replace('-', '_')}.py").write_text(text)
    (tmp_path / "shop.py").write_text(python_blocks("../README.md")[0])
    # What this fragment takes for granted.
    (tmp_path / "page_tracing.py").unlink()
    files = sorted(map(str, tmp_path.glob("*.py")))
    assert len(files) > 15
    checked = subprocess.run(
        [
            sys.executable, "-m", "mypy", "--strict", "--config-file", "", "--cache-dir",
            str(ROOT / ".mypy_cache" / "user"), str(ROOT / "tests" / "typing" / "user_saga.py"),
            *files,
        ],
        cwd=ROOT, env={**os.environ, "MYPYPATH": f"{ROOT}:{tmp_path}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (checked.stdout.splitlines()[-1], checked.returncode) == (
        f"Success: no issues found in {len(files) + 1} source files", 0,
    ), checked.stdout  # fmt: skip

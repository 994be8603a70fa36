"""A folder is a layer, and each imports only from those above it; the test draws the house."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the top: a module may import from its own layer and from those before it.
LAYERS = [
    ["outbox.errors", "outbox.durations", "outbox.tally", "outbox.trace_context"],
    ["outbox.settings", "outbox.telemetry"],
    ["outbox.definition"],
    ["outbox.store"],
    ["outbox.engine"],
    ["outbox.relay"],
    [
        *("outbox.worker", "outbox.client", "outbox.operator", "outbox.rules"),
        *("outbox.metrics", "outbox.tracing"),
    ],
    ["outbox.api", "outbox.testing"],
    ["outbox.viewer"],
    ["outbox.web"],
    ["outbox.cli"],
]
FACES = len(LAYERS) - 1


def layer_of(module: str) -> int | None:
    for place, prefixes in enumerate(LAYERS):
        if any(module == p or module.startswith(f"{p}.") for p in prefixes):
            return place
    return None


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> list[tuple[str, bool]]:
    """The modules that a file imports, and whether at its top level."""
    tree = ast.parse(path.read_text())
    top = {id(node) for node in ast.walk(tree)} - {
        id(inner)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(function)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides which layer it crosses"
            found += [(f"{node.module}.{alias.name}", id(node) in top) for alias in node.names]
    return found


SOURCES = sorted((ROOT / "outbox").rglob("*.py"))
STEPS = sorted((ROOT / "steps").rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_a_module_imports_only_from_layers_above(path: Path) -> None:
    here = layer_of(module_of(path))
    if module_of(path) == "outbox":
        return
    assert here is not None, f"{path} is in no layer: place it in LAYERS and in the architecture"
    for imported, _ in imports_of(path):
        assert not imported.startswith(("steps", "tests")), f"{path} imports {imported}"
        if imported.startswith("outbox"):
            there = layer_of(imported)
            assert there is not None, f"{path} imports {imported}, which is in no layer"
            assert there <= here, f"{path} imports {imported}, a layer below it"


def test_the_engine_and_the_relay_do_not_know_each_other() -> None:
    for path in SOURCES:
        if module_of(path).startswith("outbox.relay"):
            assert not [i for i, _ in imports_of(path) if i.startswith("outbox.engine")], path


@pytest.mark.parametrize("path", STEPS, ids=module_of)
def test_sagas_import_only_what_the_package_exports(path: Path) -> None:
    import outbox
    import outbox.api

    public = {*outbox.__all__, "", *(f"api.{name}" for name in outbox.api.__all__)}
    for imported, _ in imports_of(path):
        assert not imported.startswith("tests"), f"{path} imports {imported}"
        if imported.startswith("outbox"):
            name = imported.removeprefix("outbox.").removeprefix("outbox")
            assert name in public, f"{path} imports {imported}, which is not public"


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_imports_stand_at_the_top(path: Path) -> None:
    late = [name for name, top in imports_of(path) if not top]
    assert not late, f"{path} imports {late} inside a function, which hides a circle"


def test_only_a_score_of_names_are_public() -> None:
    import outbox

    assert outbox.__all__ == sorted(outbox.__all__)
    assert len(outbox.__all__) <= 24
    assert all(hasattr(outbox, name) for name in outbox.__all__)

"""The SQL files of this package, in the order in which they are applied."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from outbox.errors import SchemaError

_NEEDS = re.compile(r"\b(?:from|join)\s+([a-z_]+)\b")


@dataclass(frozen=True)
class SqlFile:
    """One file: ``name`` is the folder below ``sql/`` and the file's own name without the ending.
    The subfolder into which it is sorted is for people to find it, and no part of the name."""

    name: str
    text: str

    @cached_property
    def checksum(self) -> str:
        """The SHA-256 of the text, in hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def object_name(self) -> str:
        """The last part of the name: of a function's or a view's file, the object's name."""
        return self.name.rsplit("/", 1)[-1]


def sql_directory() -> Path:
    """Where the SQL files are: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parents[1]
    for candidate in (package.parent / "sql", package / "sql"):
        if (candidate / "migrations").is_dir():
            return candidate
    raise SchemaError(f"the SQL files are missing from {package}: install the package again")


def read_release() -> int:
    """The number of this program's SQL, in ``sql/RELEASE``: raised by every release that changes a
    file there, so that an older program can tell that a database is ahead of it."""
    return int((sql_directory() / "RELEASE").read_text())


def read_files(folder: str) -> list[SqlFile]:
    """The files of ``migrations``, ``functions`` or ``views``, by name, in any subfolder."""
    found = sorted((sql_directory() / folder).rglob("*.sql"), key=lambda path: path.stem)
    return [SqlFile(f"{folder}/{path.stem}", path.read_text()) for path in found]


def in_dependency_order(views: list[SqlFile]) -> list[SqlFile]:
    """Views such that each stands after those that it reads from."""
    by_name = {view.object_name: view for view in views}
    ordered: dict[str, SqlFile] = {}

    def place(view: SqlFile, path: tuple[str, ...]) -> None:
        if view.object_name in path:
            raise SchemaError(f"views read from one another in a ring: {' -> '.join(path)}")
        for needed in sorted(set(_NEEDS.findall(view.text)) & by_name.keys()):
            if needed != view.object_name:
                place(by_name[needed], (*path, view.object_name))
        ordered.setdefault(view.object_name, view)

    for view in views:
        place(view, ())
    return list(ordered.values())

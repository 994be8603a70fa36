"""The demo's own directory: emptied before, removed after, and nobody else's ever touched."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import outbox
from steps.demo import leftovers
from steps.demo.errors import DemoError

MARK = "demo.lock"
"""In every directory that the demo made, and locked by the demo that uses it."""


@dataclass
class DemoDirectory:
    """Where database, sandbox and logs keep their files; ``keep`` may be set until the end."""

    path: Path
    keep: bool

    @property
    def settings(self) -> outbox.Settings:
        """The engine's, for an embedded server here, whatever a ``.env`` says."""
        return outbox.Settings(_env_file=None, dsn=None, directory=self.path)


@contextlib.contextmanager
def demo_directory(path: Path, keep: bool) -> Iterator[DemoDirectory]:
    """Use a directory: made if it is missing, emptied if an earlier demo left something in it.

    Args:
        path: made with its parents.
        keep: do not remove it at the end.

    Raises:
        DemoError: it holds something that is not a demo's, or another demo uses it.
    """
    path = path.expanduser().absolute()
    is_parent_ours = not path.parent.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()) and not (path / MARK).exists():
            raise DemoError(
                f"{path} is not empty and was not made by the demo, which would empty it: "
                "name another directory with --directory"
            )
        with (path / MARK).open("a") as lock:
            _lock(lock.fileno(), path)
            directory = DemoDirectory(path, keep)
            _empty(directory)
            try:
                yield directory
            finally:
                if not directory.keep:
                    _empty(directory)
                    shutil.rmtree(path)
                    if is_parent_ours:
                        with contextlib.suppress(OSError):  # somebody else uses it by now
                            path.parent.rmdir()
    except PermissionError as error:
        raise DemoError(
            f"{error.filename or path}: {error.strerror}. It may be another user's: remove "
            f"{path} as that user, or name another directory with --directory"
        ) from error


def _lock(file: int, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_in_place = os.path.samestat(os.fstat(file), os.stat(path / MARK))
    except (BlockingIOError, FileNotFoundError):
        is_in_place = False
    if not is_in_place:
        raise DemoError(
            f"another demo uses {path}: wait until it has ended, or name another directory "
            "with --directory"
        )


def _empty(directory: DemoDirectory) -> None:
    leftovers.end(directory.path)
    server_runs = directory.path / "postgres" / "postmaster.pid"
    if server_runs.exists():
        # Left by a demo that was killed: whoever leaves last stops the server.
        with outbox.database(directory.settings):
            pass
        if server_runs.exists():
            raise DemoError(
                f"another program uses the database in {directory.path}: end it, or name another "
                "directory with --directory"
            )
    for entry in directory.path.iterdir():
        if entry.name == MARK:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()

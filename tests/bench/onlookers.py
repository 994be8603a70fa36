"""Those who look on: the dashboard's server, browsers that keep its pages open, and `saga top`."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import httpx

from tests.bench.server import Database
from tests.bench.workers import ROOT

START_SECONDS = 30.0
_USER = {"X-Forwarded-User": "bench"}


class OnlookerEndedError(Exception):
    """The dashboard or `saga top` ended, or did not come up; the message has its last words."""


def _environment(database: Database) -> dict[str, str]:
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith("OUTBOX_")},
        "OUTBOX_DSN": database.dsn,
        "OUTBOX_LOG_FORMAT": "json",
        "PYTHONPATH": str(ROOT),
    }


class Dashboard:
    """The dashboard's server, a process of its own; ``http`` asks it for pages as a viewer whom a
    proxy has let in."""

    def __init__(self, database: Database) -> None:
        self._environment = {
            **_environment(database),
            "OUTBOX_WEB_PORT": "0",
            "OUTBOX_WEB_SECRET_KEY": "benchmark " * 4,
            "OUTBOX_WEB_PROXY_HEADER": "X-Forwarded-User",
            "OUTBOX_WEB_PROXY_ROLES": '{"*": "viewer"}',
        }

    def __enter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(prefix="outbox-bench-web-")
        log = Path(self._directory.name) / "log"
        with log.open("wb") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "outbox.cli.web"],
                env=self._environment,
                cwd=self._directory.name,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )
        try:
            self.base = _address(log, self._process)
        except BaseException:
            self.__exit__()
            raise
        self.http = httpx.Client(base_url=self.base, headers=_USER, timeout=60)
        return self

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "http"):
            self.http.close()
        _end(self._process)
        self._directory.cleanup()

    def milliseconds(self, path: str) -> float:
        """How long it took to get a page, in milliseconds.

        Raises:
            OnlookerEndedError: there is none.
        """
        began = time.perf_counter()
        answer = self.http.get(path)
        took = time.perf_counter() - began
        if answer.status_code != 200:
            raise OnlookerEndedError(f"{path} was answered with {answer.status_code}")
        return took * 1000

    @contextlib.contextmanager
    def kept_open(self, streams: Sequence[str]) -> Iterator[list[int]]:
        """Browsers that keep these live streams open, a thread each: the number of bytes that each
        was sent."""
        received = [0] * len(streams)
        ends = threading.Event()

        def follow(place: int, path: str) -> None:
            with (
                contextlib.suppress(httpx.HTTPError),
                httpx.Client(base_url=self.base, headers=_USER, timeout=60) as client,
                client.stream("GET", path) as answer,
            ):
                for chunk in answer.iter_raw():
                    received[place] += len(chunk)
                    if ends.is_set():
                        return

        threads = [
            threading.Thread(target=follow, args=(place, path), daemon=True)
            for place, path in enumerate(streams)
        ]
        for thread in threads:
            thread.start()
        try:
            yield received
        finally:
            ends.set()


@contextlib.contextmanager
def top(database: Database) -> Iterator[list[int]]:
    """`saga top` on a terminal: the number of bytes that it has drawn."""
    drawn = [0]
    here, there = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "outbox.cli.saga", "top"],
        env={**_environment(database), "TERM": "xterm", "COLUMNS": "120", "LINES": "40"},
        stdin=there,
        stdout=there,
        stderr=there,
        start_new_session=True,
    )
    os.close(there)

    def read() -> None:
        with contextlib.suppress(OSError):  # how a terminal says that nobody is left
            while found := os.read(here, 65536):
                drawn[0] += len(found)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield drawn
    finally:
        _end(process)
        reader.join(5)
        os.close(here)


def _address(log: Path, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + START_SECONDS
    while True:
        said = log.read_text(errors="replace")
        if found := re.search(r"(http://[^/\"]+)/admin", said):
            return found[1]
        if process.poll() is not None or time.monotonic() > deadline:
            raise OnlookerEndedError(f"the dashboard did not come up: {said[-2000:]}")
        time.sleep(0.02)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

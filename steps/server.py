"""A small HTTP server in a process of its own: it says where it listens, and ends on a signal."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import uvicorn


class Server(uvicorn.Server):
    """A server that announces itself and for which a signal is an orderly end, not a death.

    Args:
        config: uvicorn's.
        url: its address, printed once it accepts.
        port_file: gets the port then.
        accepting: called then, in the event loop; a task that it makes lives as long as the server.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        url: str,
        port_file: Path | None = None,
        accepting: Callable[[], asyncio.Task[Any]] | None = None,
    ) -> None:
        super().__init__(config)
        self._url = url
        self._port_file = port_file
        self._accepting = accepting
        self._beside: asyncio.Task[Any] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept, then say where."""
        await super().startup(sockets)
        if self._accepting is not None:
            self._beside = self._accepting()
        if self._port_file is not None:
            # A reader sees no file or the whole number, never an empty file.
            partial = self._port_file.with_name(f"{self._port_file.name}.partial")
            partial.write_text(self._url.rpartition(":")[2])
            partial.rename(self._port_file)
        print(self._url, flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what runs beside, and stop accepting."""
        if self._beside is not None:
            self._beside.cancel()
            await asyncio.wait([self._beside])
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on a signal; uvicorn itself would raise it again and end with its number."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        yield

    def _stop(self) -> None:
        self.should_exit = True


class ServerProcess:
    """Runs ``python -m MODULE``, whose first line of output is its address; a context manager that
    stops it at the end.

    Args:
        module: what to run.
        options: its command line.
        log: a file for its error output; by default that of this process.
        environment: its environment variables; by default those of this process.

    Raises:
        RuntimeError: it ended before it accepted connections.
    """

    def __init__(
        self,
        module: str,
        *options: str,
        log: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        errors = None if log is None else log.open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *options],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=None if environment is None else dict(environment),
            # The package is found from here, wherever the caller stands.
            cwd=Path(__file__).parents[1],
            # An interrupt at the terminal is the caller's to deal with.
            start_new_session=True,
        )
        if errors is not None:
            errors.close()
        self.pid = self._process.pid
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError(
                f"{module} ended with exit code {self._process.wait()} before it listened; "
                "its error output says why"
            )
        self.port = int(self.url.rpartition(":")[2])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> int:
        """End it in order; again is harmless.

        Returns:
            Its exit code, 0 when it ended well.
        """
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it on the spot, as a crash would."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> int:
        if self._process.poll() is None:
            self._process.send_signal(number)
        code = self._process.wait(timeout=30)
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code

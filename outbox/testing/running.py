"""A worker in a thread of the test's process."""

from __future__ import annotations

import asyncio
import logging
import threading
from types import TracebackType
from typing import Any, Self

from outbox.definition.registry import App
from outbox.settings import Settings
from outbox.telemetry import LEVELS, Level, Telemetry
from outbox.worker import Worker

_log = logging.getLogger("outbox")


class RunningWorker:
    """Runs an app's sagas in a thread, with an event loop of its own, until the end of its context.

    What the worker tells is logged by the standard library's logger ``outbox``, which pytest shows
    of a test that fails.

    Raises:
        OutboxError: what a worker says that cannot begin.
    """

    def __init__(self, app: App, settings: Settings, dsn: str) -> None:
        self._worker = Worker([app], settings, dsn, Telemetry(_tell))
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="outbox worker", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        self.check()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._worker.stop)
            self._thread.join()

    def check(self) -> None:
        """Raises what the worker has ended with, if it has."""
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:  # noqa: BLE001 - for the test's thread to raise
            self._error = error
        finally:
            self._ready.set()
            self._loop.close()

    async def _serve(self) -> None:
        running = asyncio.ensure_future(self._worker.run())
        ready = asyncio.ensure_future(self._worker.ready.wait())
        await asyncio.wait({running, ready}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if not running.done():
            self._ready.set()
        await running


def _tell(event: str, level: Level, fields: dict[str, Any]) -> None:
    told = " ".join(f"{name}={value}" for name, value in fields.items() if name != "exception")
    exception = f"\n{fields['exception']}" if "exception" in fields else ""
    _log.log(LEVELS[level], "%s %s%s", event, told, exception)

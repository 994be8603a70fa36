"""Whether the database can be used: said once when it cannot be, and why, and once when it can be
again."""

from __future__ import annotations

import asyncio
import contextlib
import time

from outbox.store.connect import connect, describe_dsn
from outbox.store.migrate import is_installed
from outbox.telemetry import Telemetry

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 10.0  # seconds between two looks while it cannot be used
_FRESH = 1.0  # so long what was found is believed
_LOOKING = 10.0  # a look takes no longer


class Reach:
    """Looks at the start, while the database cannot be used, and whenever somebody had trouble.

    Args:
        dsn: where the database is; each look has a connection of its own.
        schema: what has to be in it.
        telemetry: is told.
    """

    def __init__(self, dsn: str, schema: str, telemetry: Telemetry) -> None:
        self._dsn, self._schema, self._telemetry = dsn, schema, telemetry
        self._problem: str | None = None
        self._looked_at = float("-inf")
        self._doubted, self._looked = asyncio.Event(), asyncio.Event()

    async def run(self) -> None:
        """Runs until cancelled."""
        wait = _FIRST_WAIT
        while True:
            self._doubted.clear()
            self._keep(await self._look())
            if self._problem is None:
                wait = _FIRST_WAIT
                await self._doubted.wait()
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._doubted.wait()
            wait = min(wait * 2, _LONGEST_WAIT)

    def doubt(self) -> None:
        """Somebody had trouble: it is looked now."""
        self._doubted.set()

    async def why(self, within: float = 1.0) -> str | None:
        """Why the database cannot be used, in words for whoever runs it: it names the host, and no
        secret. None: it can be, or what is wrong was not found out within so many seconds."""
        if time.monotonic() - self._looked_at > _FRESH:
            self.doubt()
            self._looked.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within):
                    await self._looked.wait()
        return self._problem

    async def _look(self) -> str | None:
        where = describe_dsn(self._dsn)
        try:
            async with (
                asyncio.timeout(_LOOKING),
                await connect(
                    self._dsn, prepared_statements=False, name="outbox-web reach"
                ) as connection,
            ):
                if await is_installed(connection, self._schema):
                    return None
            return f"schema {self._schema} is not installed in {where}: run bin/saga migrate"
        except TimeoutError:
            reason = f"it has not answered within {_LOOKING:g} seconds"
        except Exception as error:  # noqa: BLE001 - whatever it is, it is why
            reason = " ".join(str(error).split()) or type(error).__name__
        return f"{where} cannot be used ({reason}): check OUTBOX_DSN, and that Postgres runs there"

    def _keep(self, problem: str | None) -> None:
        before, self._problem = self._problem, problem
        self._looked_at = time.monotonic()
        self._looked.set()
        if problem is not None and problem != before:
            self._telemetry.emit(
                "database_unusable",
                "error",
                reason=problem,
                until_then="requests are answered by 503, and it is tried again every few seconds",
            )
        elif problem is None and before is not None:
            self._telemetry.emit("database_back", database=describe_dsn(self._dsn))

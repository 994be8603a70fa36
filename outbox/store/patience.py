"""A statement without an answer: whether its server is still the one, and what it waits for.

TCP notices a host that vanished. It does not notice a server that hangs on a host that lives, nor
that it was replaced meanwhile: a statement would be waited for until that host goes. So after a
while somebody looks, on a fresh connection, which after a failover leads to the new server; and
what that server knows nothing of will not be answered any more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import Any, Self

import psycopg
from psycopg import AsyncConnection, Notify

from outbox.telemetry import Telemetry

_LOOKING = 15.0  # seconds that a look takes at most: a DSN may name several hosts
_LONGEST = 300.0  # seconds after which what waits for nothing that can be named is given up
_ACTIVITY = (
    "select wait_event_type, wait_event, pg_blocking_pids(pid) from pg_stat_activity "
    "where pid = %s and application_name = left(%s, 63)"
)
_WHOSE = "select pg_backend_pid(), pg_is_in_recovery()"


class PatientConnection(AsyncConnection[tuple[Any, ...]]):
    """A connection on which somebody looks after each statement that has no answer for long.

    ``patience`` looks; without it nobody does, as where it is waited for notifications.
    ``is_lent``: a handler uses it, whose statements may take as long as the handler has.
    """

    patience: Patience | None = None
    is_lent = False
    waits = 0
    """A number that is another one as soon as a statement begins or ends."""

    async def notifies(self, **options: Any) -> AsyncGenerator[Notify]:
        """What is notified, as psycopg yields it; nobody looks meanwhile."""
        patience, self.patience = self.patience, None
        try:
            async for notify in super().notifies(**options):
                yield notify
        finally:
            self.patience = patience

    async def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """Waits for an answer, as psycopg does."""
        if self.patience is None:
            return await super().wait(gen, *args, **kwargs)
        self.waits += 1
        timer = self.patience.after(self, self.waits)
        try:
            return await super().wait(gen, *args, **kwargs)
        finally:
            self.waits += 1
            timer.cancel()


@contextlib.contextmanager
def lent(connection: AsyncConnection[Any]) -> Iterator[None]:
    """Meanwhile a handler uses the connection."""
    patient = connection if isinstance(connection, PatientConnection) else None
    if patient is not None:
        patient.is_lent = True
    try:
        yield
    finally:
        if patient is not None:
            patient.is_lent = False


class Patience:
    """Looks after statements without an answer.

    Args:
        connect: makes the connection to look on.
        give_up: breaks a connection, so that whoever waits on it is told.
        telemetry: is told what a statement waits for.
        seconds: after which to look, again and again.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[AsyncConnection[Any]]],
        give_up: Callable[[PatientConnection], None],
        telemetry: Telemetry,
        seconds: float,
    ) -> None:
        self._connect, self._give_up = connect, give_up
        self._telemetry, self._seconds = telemetry, seconds
        self._looking: set[asyncio.Task[None]] = set()

    def after(self, connection: PatientConnection, number: int) -> asyncio.TimerHandle:
        """Will look, unless the timer is cancelled."""
        loop = asyncio.get_running_loop()
        return loop.call_later(self._seconds, self._begin, connection, number)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Looks no more."""
        for looking in self._looking:
            looking.cancel()
        await asyncio.gather(*self._looking, return_exceptions=True)

    def _begin(self, connection: PatientConnection, number: int) -> None:
        looking = asyncio.get_running_loop().create_task(self._look(connection, number))
        self._looking.add(looking)
        looking.add_done_callback(self._looked)

    def _looked(self, looking: asyncio.Task[None]) -> None:
        self._looking.discard(looking)
        if not looking.cancelled() and (error := looking.exception()) is not None:
            self._telemetry.emit("internal_error", "error", error=repr(error), exc_info=error)

    async def _look(self, connection: PatientConnection, number: int) -> None:
        """Looks until the statement has ended, or its connection is given up."""
        waited = self._seconds
        name = connection.info.get_parameters().get("application_name", "")
        while True:
            waits_for, is_gone = await self._find_out(connection, name)
            if connection.waits != number or connection.closed:
                return
            if is_gone or (waits_for is None and waited >= _LONGEST and not connection.is_lent):
                self._telemetry.emit(
                    "connection_given_up",
                    "warning",
                    connection=name,
                    pid=connection.info.backend_pid,
                    seconds=round(waited, 1),
                    message="the server that OUTBOX_DSN leads to now knows nothing of it: it was "
                    "replaced" if is_gone else "its server process does not answer",
                )  # fmt: skip
                self._give_up(connection)
                return
            if not connection.is_lent:
                self._telemetry.emit(
                    "database_slow",
                    "warning",
                    connection=name,
                    pid=connection.info.backend_pid,
                    seconds=round(waited, 1),
                    message="a statement has no answer yet: it waits for "
                    f"{waits_for or 'its server process'}",
                )
            await asyncio.sleep(max(self._seconds, waited))
            waited += max(self._seconds, waited)

    async def _find_out(self, connection: PatientConnection, name: str) -> tuple[str | None, bool]:
        """What a statement waits for, in words, if that can be told; and whether its server knows
        nothing of it."""
        pid = connection.info.backend_pid
        try:
            async with asyncio.timeout(_LOOKING), await self._connect() as other:
                row = await (await other.execute(_ACTIVITY, (pid, name))).fetchone()
                whose = await (await other.execute(_WHOSE)).fetchone()
                its = other.info.backend_pid
        except TimeoutError:
            return "a database that does not answer", False
        except (psycopg.Error, OSError) as error:
            return f"a database that cannot be asked ({' '.join(str(error).split())})", False
        if row is not None:
            return _waits_for(*row), False
        if whose != (its, False):  # a pooler's, or a standby
            return "what cannot be seen from here", False
        return None, True


def _waits_for(type_: str | None, event: str | None, blocking: list[int]) -> str | None:
    """What a server process waits for, in words; None: for nothing that ends without it."""
    if blocking:
        pids = ", ".join(map(str, blocking))
        return f"a lock that pid {pids} has: see pg_stat_activity; pg_terminate_backend() ends it"
    if event == "SyncRep":
        return "a synchronous standby, which does not answer: see synchronous_standby_names"
    return None if type_ in (None, "Client") else f"{type_}: {event}"

"""The relay: turns stored events into deliveries and jobs, and delivers them while anybody has
subscribed. What must not be lost are rows of ours, so a relay that dies loses nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta

import orjson
import psycopg
from pgqueuer.domain.errors import PgqException

from outbox.definition.event import Subscriber
from outbox.relay.deliver import Deliverer, entrypoint
from outbox.relay.mail import Mailer
from outbox.relay.webhook import CAN_SEND
from outbox.store.connect import Connection, connect
from outbox.store.event_functions import EventFunctions
from outbox.store.patience import Patience
from outbox.store.pgqueuer_schema import pgqueuer_queries
from outbox.telemetry import Telemetry

_BATCH = 500
_OVERDUE = 4
_IDLE = 30.0
_SETTLED = 10.0  # seconds after which a part that broke had been running


class Relay:
    """Brings events on their way.

    Args:
        dsn: connections of its own: one to route while there is something to route, and one to
            deliver once anybody has subscribed.
        listen_dsn: then one more to listen on, which is not to be PgBouncer's.
        subscribers: the functions of this worker's apps, by name.
        wake: set when events were stored; the relay clears it.
        heartbeat: seconds after which another worker goes on with the deliveries of a dead one.
        mailer: sends mails; None: this worker sends none.
        patience: looks after statements that have no answer for long.
    """

    def __init__(
        self,
        dsn: str,
        listen_dsn: str,
        schema: str,
        subscribers: Mapping[str, Subscriber],
        telemetry: Telemetry,
        *,
        wake: asyncio.Event,
        heartbeat: float,
        mailer: Mailer | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._dsn = dsn
        self._patience = patience
        self._listen_dsn = listen_dsn
        self._functions = EventFunctions(schema)
        self._telemetry = telemetry
        self._wake = wake
        self._overdue: timedelta | None = None
        self._heartbeat = heartbeat
        self._wanted = asyncio.Event()
        self._subscribers = subscribers
        self._can_send = CAN_SEND or mailer is not None
        self._knows_urls = False
        if subscribers:
            self._wanted.set()
        self._deliverer = Deliverer(
            self._functions, subscribers, telemetry, heartbeat=heartbeat, wake=wake, mailer=mailer
        )

    def look(self) -> None:
        """Looks for events that nobody has routed, and for deliveries whose job was lost."""
        self._overdue = timedelta(seconds=_OVERDUE * self._heartbeat)
        self._wake.set()

    async def run(self) -> None:
        """Runs until cancelled; connects anew, with backoff, when the database was away."""
        self.look()
        async with asyncio.TaskGroup() as parts:
            parts.create_task(self._again_and_again(self._route, "relay route"))
            parts.create_task(self._again_and_again(self._deliver, "relay"))

    async def _again_and_again(self, part: Callable[[str], Awaitable[None]], name: str) -> None:
        wait, clock = 0.2, asyncio.get_running_loop().time
        while True:
            begun = clock()
            try:
                await part(name)
                wait = 0.2
            except Exception as error:  # noqa: BLE001 - sagas go on without it
                if clock() - begun > _SETTLED:
                    wait = 0.2  # a trouble of its own, however many there were in its life
                self._telemetry.emit(
                    "relay_interrupted",
                    "warning" if isinstance(error, psycopg.Error | PgqException) else "error",
                    connection=f"outbox {name}",
                    error=str(error).strip() or type(error).__name__,
                    retry_in=wait,
                )
                self._wake.set()
                await asyncio.sleep(wait * random.uniform(0.5, 1))
                wait = min(wait * 2, 10.0)

    async def _route(self, name: str) -> None:
        """Routes what there is, and what comes; returns when nothing has come for a while."""
        await self._wake.wait()
        async with await self._connected(name) as connection:
            while True:
                self._wake.clear()
                overdue, self._overdue = self._overdue, None
                await self.route(connection, overdue)
                if not (self._knows_urls or (self._wanted.is_set() and self._can_send)):
                    await self._look_for_urls(connection)
                try:
                    async with asyncio.timeout(_IDLE):
                        await self._wake.wait()
                except TimeoutError:
                    return

    async def _look_for_urls(self, connection: Connection) -> None:
        """Notes that there are subscriptions with a URL, for which this worker is to deliver."""
        if not await self._functions.has_webhooks(connection):
            return
        self._knows_urls = True
        self._wanted.set()
        if not self._can_send:
            self._telemetry.emit(
                "webhooks_not_sent",
                "warning",
                message="there are subscriptions with a URL, and this worker cannot send to any: "
                "pip install 'outbox-saga[webhooks]', or leave it to workers that can",
            )

    async def route(self, connection: Connection, overdue: timedelta | None = None) -> int:
        """Turns stored events into deliveries, and makes their jobs; how many jobs that were."""
        queries = pgqueuer_queries(connection, self._functions.schema)
        made, more = 0, True
        while more:
            async with connection.transaction():
                lanes, more = await self._functions.route(connection, _BATCH, overdue)
                if lanes:
                    await queries.enqueue(
                        [entrypoint(lane.subscription, lane.channel) for lane in lanes],
                        [
                            orjson.dumps({"subscription": lane.subscription, "saga": lane.saga_id})
                            for lane in lanes
                        ],
                        [0] * len(lanes),
                        # The job of a stray may be late, not lost: one more of them is enough. Of
                        # others none may be left out, since one may be ending just now.
                        dedupe_key=[
                            f"stray/{lane.subscription}/{lane.saga_id}" if lane.is_stray else None
                            for lane in lanes
                        ],
                        on_conflict="skip",
                    )
            made += len(lanes)
            overdue = None
        return made

    async def _deliver(self, name: str) -> None:
        await self._wanted.wait()
        async with (
            await self._connected(name) as work,
            await connect(
                self._listen_dsn, prepared_statements=False, name="outbox relay listen"
            ) as ear,
        ):
            await self._deliverer.serve(work, ear)

    async def _connected(self, name: str) -> Connection:
        return await connect(
            self._dsn,
            prepared_statements=False,
            name=f"outbox {name}",
            patience=self._patience,
        )

"""Delivering events: pgqueuer's jobs say which lane has something to deliver, our own rows what.

A lane is one saga's events on their way to one subscription. A job of pgqueuer looks after it until
it is empty, one event at a time. pgqueuer may hand a job to two workers, when it takes one of them
for dead; then the lane's row lets only one of them deliver.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID

import orjson
import psycopg
from pgqueuer.adapters.drivers.psycopg import PsycopgDriver
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.core.qm import QueueManager
from pgqueuer.domain.errors import RetryRequested
from pgqueuer.domain.models import Job, TableChangedEvent, TracebackRecord
from pgqueuer.domain.types import Channel
from pgqueuer.ports.driver import NotifyCallback

from outbox.definition.event import Event, Subscriber
from outbox.definition.outcomes import describe, storable
from outbox.relay.mail import MAILTO, Mailer
from outbox.relay.webhook import CAN_SEND, NotDeliveredError, Sender
from outbox.store.connect import Connection
from outbox.store.event_functions import EventFunctions, Taken
from outbox.store.pgqueuer_schema import pgqueuer_queries, pgqueuer_settings
from outbox.telemetry import Telemetry

WEBHOOK = "webhook"
MAIL = "mail"
_LEEWAY = timedelta(seconds=5)
_AFTER_TROUBLE = timedelta(seconds=2)
_AT_ONCE = 50
_BATCH = 10
_LONGEST_RETRY_AFTER = timedelta(days=1)


def entrypoint(subscription: str, channel: str) -> str:
    """The name of the jobs that deliver to a subscription: any worker can send webhooks, those that
    know of an SMTP server can send mails, and only those whose app has a subscriber can call it."""
    return channel if channel in (WEBHOOK, MAIL) else f"subscriber/{subscription}"


class TwoConnections(PsycopgDriver):
    """pgqueuer's driver with a connection of its own to listen on: while psycopg waits for a
    notification, no statement gets through on the same connection."""

    def __init__(self, work: Connection, ear: Connection) -> None:
        super().__init__(ear)
        self._work = PsycopgDriver(work)
        self._callbacks: list[tuple[str, NotifyCallback]] = []

    async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        """Runs a query beside the listening."""
        return await self._work.fetch(query, *args)

    async def execute(self, query: str, *args: object) -> str:
        """Runs a statement beside the listening."""
        return await self._work.execute(query, *args)

    async def add_listener(self, channel: str, callback: NotifyCallback) -> None:
        """Listens to a channel."""
        self._callbacks.append((channel, callback))
        await super().add_listener(channel, callback)

    def tell_myself(self, channel: str, message: str) -> None:
        """Calls those who listen to a channel here, and nobody elsewhere."""
        for listened, callback in self._callbacks:
            if listened == channel:
                callback(message)


class NoticingQueries(Queries):
    """pgqueuer's queries, for a manager that notices its own retries: no notification tells of a
    job that was put off, so that it would sleep on to the end of its poll."""

    driver: TwoConnections
    channel: Channel

    async def retry_job(
        self, job: Job, delay: timedelta, traceback_record: TracebackRecord | None
    ) -> None:
        """Puts a job off, and lets the manager compute anew when it has to look."""
        await super().retry_job(job, delay, traceback_record)
        event = TableChangedEvent(
            channel=self.channel,
            sent_at=datetime.now(UTC),
            type="table_changed_event",
            operation="update",
            table=self.qbe.settings.queue_table,
        )
        self.driver.tell_myself(self.channel, event.model_dump_json())


class Deliverer:
    """Delivers events to the subscribers of this worker's apps, and to webhooks.

    Args:
        heartbeat: seconds after which another worker goes on with the jobs of a dead one.
        wake: set when the database says that there may be something to route.
        mailer: sends mails; None: this worker sends none.
    """

    def __init__(
        self,
        functions: EventFunctions,
        subscribers: Mapping[str, Subscriber],
        telemetry: Telemetry,
        *,
        heartbeat: float,
        wake: asyncio.Event,
        mailer: Mailer | None = None,
    ) -> None:
        self._mailer = mailer
        self._functions = functions
        self._subscribers = subscribers
        self._telemetry = telemetry
        self._heartbeat = timedelta(seconds=heartbeat)
        self._wake = wake
        self._sending: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def serve(self, work: Connection, ear: Connection) -> None:
        """Delivers until cancelled; what is being delivered then gets a few seconds to end.

        Raises:
            psycopg.Error: a connection broke.
        """
        plain = pgqueuer_queries(work, self._functions.schema)
        queries = NoticingQueries(
            TwoConnections(work, ear), qbe=plain.qbe, qbq=plain.qbq, qbs=plain.qbs
        )
        queries.channel = pgqueuer_settings(self._functions.schema).channel
        manager = QueueManager(queries, channel=queries.channel)
        # Before anybody waits for notifications on that connection: whoever listens to a further
        # channel is then kept waiting, and the manager's first probe of its own would be lost.
        await queries.driver.add_listener(queries.channel, lambda _: None)
        await queries.driver.add_listener(self._functions.channel, lambda _: self._wake.set())
        self._wake.set()  # what came before
        if not CAN_SEND:
            await self._serve(manager, work, None)
            return
        async with Sender() as sender:
            await self._serve(manager, work, sender)

    async def _serve(self, manager: QueueManager, work: Connection, sender: Sender | None) -> None:
        async def look_after(job: Job) -> None:
            await self._look_after(job, work, sender)

        for name in self._subscribers:
            manager.entrypoint(entrypoint(name, "function"))(look_after)
        if self._mailer is not None:
            manager.entrypoint(MAIL)(look_after)
        if sender is not None:
            manager.entrypoint(WEBHOOK)(look_after)
        self._stopping = False
        running = asyncio.create_task(
            manager.run(
                dequeue_timeout=2 * self._heartbeat,
                batch_size=_BATCH,
                max_concurrent_tasks=_AT_ONCE,
                heartbeat_timeout=self._heartbeat,
                shutdown_on_listener_failure=True,
                log_aggregation_interval=timedelta(0),
            ),
            name="deliver",
        )
        try:
            await asyncio.wait({running})
        finally:
            manager.shutdown.set()
            if self._sending:
                await asyncio.wait(self._sending, timeout=self._heartbeat.total_seconds() / 3)
            self._stopping = True
            for sending in self._sending:
                sending.cancel()
            await asyncio.wait({running}, timeout=self._heartbeat.total_seconds() / 3)
            running.cancel()
            await asyncio.wait({running})
        running.result()

    async def _look_after(self, job: Job, work: Connection, sender: Sender | None) -> None:
        """Delivers what is in a lane until it is empty. Whatever goes wrong, the job stays."""
        assert job.payload is not None, "a job says which lane it is for"
        lane = orjson.loads(job.payload)
        try:
            wait = await self._empty(lane["subscription"], UUID(lane["saga"]), work, sender)
        except psycopg.Error as error:
            raise RetryRequested(_AFTER_TROUBLE, type(error).__name__) from None
        except Exception as error:  # noqa: BLE001 - else pgqueuer would forget the job
            self._telemetry.emit("internal_error", "error", error=repr(error), exc_info=error)
            raise RetryRequested(_AFTER_TROUBLE, type(error).__name__) from None
        if wait is not None:
            raise RetryRequested(wait, "the next event is due then")

    async def _empty(
        self, subscription: str, saga_id: UUID, work: Connection, sender: Sender | None
    ) -> timedelta | None:
        """Delivers until the lane is empty: None; or until it has to wait: for how long."""
        while True:
            if self._stopping:
                return timedelta(0)
            taken = await self._functions.take(work, subscription, saga_id, _LEEWAY)
            if taken.verdict == "none":
                return None
            if taken.verdict == "wait":
                return taken.wait
            await self._deliver(subscription, saga_id, taken, work, sender)

    async def _deliver(
        self,
        subscription: str,
        saga_id: UUID,
        taken: Taken,
        work: Connection,
        sender: Sender | None,
    ) -> None:
        """One attempt to deliver one event, and what came of it."""
        event = Event(
            f"{saga_id}-{taken.number}", taken.name, taken.payload, saga_id, taken.type,
            taken.version, taken.key, taken.step, taken.seq, taken.at, taken.attempt,
        )  # fmt: skip
        fields = {
            "subscription": subscription,
            "event": taken.number,
            "name": taken.name,
            "saga_id": str(saga_id),
            "attempt": taken.attempt,
        }
        sending = asyncio.create_task(self._send(subscription, event, taken, sender))
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)
        await asyncio.wait({sending})
        failed = self._functions.not_delivered
        if sending.cancelled():
            why = "the worker stopped before this was delivered"
            await failed(work, subscription, saga_id, taken, why, counted=False)
            return
        error = sending.exception()
        if error is None:
            if await self._functions.delivered(work, subscription, saga_id, taken):
                self._telemetry.emit("event_delivered", "debug", **fields)
            return
        after, gone = None, False
        if isinstance(error, NotDeliveredError):
            message, gone = str(error), error.gone
            after = None if error.after is None else min(error.after, _LONGEST_RETRY_AFTER)
        else:
            described = describe(error)
            message = f"{described['type']}: {described['message']}"
        message = storable(message)
        verdict = await failed(work, subscription, saga_id, taken, message, after=after, gone=gone)
        if verdict == "gone":
            self._telemetry.emit("subscription_disabled", "error", **fields, error=message)
        elif verdict == "dead":
            self._telemetry.emit("dead_letter", "error", **fields, error=message)
        else:
            self._telemetry.emit(
                "delivery_failed", "warning", **fields, error=message, verdict=verdict
            )

    async def _send(
        self, subscription: str, event: Event, taken: Taken, sender: Sender | None
    ) -> None:
        """Hands an event to its receiver.

        Raises:
            Exception: whatever the receiver does instead of taking it.
        """
        seconds = taken.timeout.total_seconds()
        try:
            async with asyncio.timeout(seconds):
                if taken.url is not None and taken.url.startswith(MAILTO):
                    assert self._mailer is not None, "only who can send mails takes such jobs"
                    await self._mailer.send(event, taken.url, taken.timeout)
                elif taken.url is not None:
                    assert sender is not None, "only who can send takes such jobs"
                    await sender.send(event, taken.url, taken.secrets or [], taken.timeout)
                else:
                    await _told(self._subscribers[subscription], event)
        except TimeoutError as error:
            raise NotDeliveredError(f"not done within {seconds:g} seconds") from error


async def _told(subscriber: Subscriber, event: Event) -> None:
    """Calls a subscriber, which can end neither the worker nor, by a cancellation of its own doing,
    what looks like the worker's."""
    try:
        await subscriber.handler(event)
    except SystemExit as error:
        raise NotDeliveredError(f"the subscriber called sys.exit({error.code!r})") from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise NotDeliveredError("the subscriber was cancelled from within") from error

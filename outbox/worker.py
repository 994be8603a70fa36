"""A worker: wires the engine's parts, runs them, and ends them in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from typing import Any

from pydantic import ValidationError

from outbox.definition.registry import (
    App,
    AppContext,
    describe_input,
    describe_limits,
    describe_steps,
)
from outbox.engine.advance import Advancer
from outbox.engine.claim import Claimer
from outbox.engine.execute import Executor
from outbox.engine.follow import Follower
from outbox.engine.hand import Hand
from outbox.engine.lease import Lease
from outbox.engine.link import Links
from outbox.engine.remember import Memories
from outbox.engine.shared_transaction import SharedTransaction
from outbox.engine.trace import Tracer
from outbox.engine.transaction import Transactions
from outbox.engine.wake import Wake
from outbox.errors import DefinitionError, OutboxError, translated
from outbox.relay.cron import check_cron
from outbox.relay.events import Relay
from outbox.relay.mail import Mailer
from outbox.relay.schedule import Schedules
from outbox.settings import Settings
from outbox.store.connect import Connection, connect, make_patience
from outbox.store.event_functions import EventFunctions
from outbox.store.functions import Functions
from outbox.store.migrate import require_current
from outbox.telemetry import Telemetry

_ONCE_LINKS = 2
_SILENT = 0.6  # of the lease: when a statement that has no answer is looked after
_HELD = 0.8  # of the lease: how often a worker compares what it holds with what it knows of


class LifespanError(OutboxError):
    """An app's lifespan could not set up what its handlers need."""


class Worker:
    """Runs the sagas of some apps until it is stopped.

    Args:
        apps: what to run; no two may have the same version of a saga type.
        settings: how.
        dsn: the database.
        telemetry: where the events go.
        tracer: makes the spans, if there are to be some.

    Raises:
        DefinitionError: two apps have the same version of a saga type.
        ConfigurationError: a schedule is not a cron expression, or the SMTP server's URL is none.
    """

    def __init__(
        self,
        apps: Sequence[App],
        settings: Settings,
        dsn: str,
        telemetry: Telemetry,
        tracer: Tracer | None = None,
    ) -> None:
        self._apps = apps
        self._settings = settings
        self._dsn = dsn
        self._telemetry = telemetry
        self._tracer = tracer
        self._functions = Functions(settings.schema_name)
        self._sagas = {key: saga for app in apps for key, saga in app.sagas.items()}
        if len(self._sagas) != sum(len(app.sagas) for app in apps):
            raise DefinitionError("two apps have the same version of a saga type")
        self._subscribers = {name: s for app in apps for name, s in app.subscribers.items()}
        if len(self._subscribers) != sum(len(app.subscribers) for app in apps):
            raise DefinitionError("two apps have a subscriber of the same name")
        check_cron("OUTBOX_ALERT_SCHEDULE", settings.alert_schedule)
        check_cron("OUTBOX_RETENTION_SCHEDULE", settings.retention_schedule)
        self._mailer = mailer_of(settings)
        self._stop = asyncio.Event()
        self._beginning: asyncio.Task[Any] | None = None
        self.ready = asyncio.Event()

    @property
    def left_behind(self) -> int:
        """How many handlers outlived their time and still run; they would keep an interpreter from
        ending."""
        return self._executor.left_behind if self.ready.is_set() else 0

    def stop(self) -> None:
        """Asks for an orderly end: claim no more, finish what runs, release the rest. A worker that
        has not begun, since the database is away, say, does not begin."""
        self._stop.set()
        if self._beginning is not None and not self.ready.is_set():
            self._beginning.cancel()

    async def run(self) -> None:
        """Runs until ``stop``; the grace period included.

        Raises:
            SchemaError: the database is not migrated, or behind.
            DefinitionError: a definition clashes with the registered one.
            LifespanError: an app's lifespan failed.
            psycopg.OperationalError: the database cannot be reached at the start.
        """
        self._beginning = asyncio.current_task()
        try:
            await self._run()
        except asyncio.CancelledError:
            if self.ready.is_set() or not self._stop.is_set() or self._beginning is None:
                raise
            self._beginning.uncancel()
            self._telemetry.emit("worker_not_begun", message="it was told to stop before it began")

    async def _run(self) -> None:
        async with await connect(self._dsn, prepared_statements=False) as connection:
            if warning := await require_current(connection, self._settings.schema_name):
                self._telemetry.emit("schema_ahead", "warning", message=warning)
            await register(connection, self._functions, self._apps)
            await register_subscribers(connection, self._settings.schema_name, self._apps)
        async with AsyncExitStack() as stack:
            resources: list[object] = []
            context = AppContext(dsn=self._dsn, schema=self._settings.schema_name)
            for app in self._apps:
                try:
                    resources.extend(await stack.enter_async_context(app.lifespan(context)))
                except Exception as error:
                    names = ", ".join(sorted({type_ for type_, _ in app.sagas}))
                    why = _reason(error)
                    raise LifespanError(
                        f"the app of {names} could not set up what its handlers need: {why}"
                    ) from error
            await self._serve(resources)

    async def _serve(self, resources: Iterable[object]) -> None:
        settings = self._settings
        patience = make_patience(self._dsn, self._telemetry, max(3.0, settings.lease * _SILENT))
        links = Links(
            self._dsn,
            prepared_statements=settings.prepared_statements,
            telemetry=self._telemetry,
            patience=patience,
        )
        async with patience, links:
            link = links.make
            hand = Hand(
                self._sagas,
                concurrency=settings.concurrency,
                size=settings.in_hand,
                type_concurrency=settings.type_concurrency,
            )
            if (tally := self._telemetry.tally) is not None:
                tally.readings["in_hand"] = lambda: len(hand)
                tally.readings["running"] = lambda: hand.running
            lease = self.lease = Lease(
                # Back well before those who reap may take it for dead.
                link("lease", longest_wait=min(5.0, settings.lease * 0.2)),
                self._functions,
                self._telemetry,
                lease=settings.lease,
                types=hand.types,
            )
            memories = Memories([link("once") for _ in range(_ONCE_LINKS)], self._functions, lease)
            self._executor = Executor(
                lease,
                self._telemetry,
                resources=resources,
                threads=settings.threads,
                memory=memories.of,
                tracer=self._tracer,
            )
            advancer = Advancer(
                link("advance"), self._functions, lease, self._telemetry, self._tracer
            )
            transactional = Transactions(
                [link("transaction", steadfast=False) for _ in range(settings.transactions)],
                self._functions,
                lease,
                hand,
                advancer,
                SharedTransaction(self._functions, lease, self._executor, advancer),
            )
            listen_dsn = settings.listen_dsn
            wake = Wake(
                link("listen", listen_dsn.get_secret_value() if listen_dsn else None),
                self._functions.wake_channel,
            )
            follower = Follower(
                link("release"),
                self._functions,
                lease,
                hand,
                self._executor,
                transactional,
                advancer,
                wake,
            )
            claimer = Claimer(
                link("claim"),
                self._functions,
                lease,
                hand,
                wake,
                self._telemetry,
                begin=follower.begin,
                poll=settings.poll,
                traced=self._tracer is not None,
            )
            relay = Relay(
                self._dsn,
                listen_dsn.get_secret_value() if listen_dsn else self._dsn,
                settings.schema_name,
                self._subscribers,
                self._telemetry,
                wake=advancer.emitted,
                heartbeat=settings.lease,
                mailer=self._mailer,
                patience=patience,
            )
            schedules = Schedules(
                self._dsn,
                self._functions,
                self._telemetry,
                alerts=settings.alert_schedule,
                retention=settings.retention_schedule,
                after_alerts=relay.look,
                patience=patience,
            )
            await lease.register()
            claiming = asyncio.create_task(claimer.run(), name="claim")
            transactions = asyncio.create_task(transactional.serve(), name="transactions")
            always = [
                asyncio.create_task(lease.keep(), name="lease"),
                asyncio.create_task(lease.sweep(link("reap")), name="reap"),
                # Not by the heartbeats' own task, which is to wait for nothing.
                asyncio.create_task(claimer.watch_held(settings.lease * _HELD), name="held"),
                asyncio.create_task(wake.listen(), name="listen"),
                asyncio.create_task(advancer.run(), name="advance"),
                asyncio.create_task(schedules.run(), name="schedules"),
                asyncio.create_task(relay.run(), name="relay"),
            ]
            self.ready.set()
            try:
                await self._until_stopped([claiming, transactions, *always])
                await cancel(claiming)
                self._telemetry.emit("worker_stopping", in_hand=len(hand))
                await follower.finish(settings.shutdown_grace, settings.lease)
                await cancel(transactions)
                await lease.leave()
            finally:
                await follower.cancel()
                await cancel(claiming, transactions, *always)
                self._executor.close()

    async def _until_stopped(self, parts: Sequence[asyncio.Task[None]]) -> None:
        """Returns when asked to stop, or when too many threads are stuck; a part that ends before
        is a bug, and raised."""
        stopped = asyncio.create_task(self._stop.wait())
        exhausted = asyncio.create_task(self._executor.threads.exhausted.wait())
        done, _ = await asyncio.wait(
            [stopped, exhausted, *parts], return_when=asyncio.FIRST_COMPLETED
        )
        if exhausted in done:
            self._telemetry.emit(
                "worker_exhausted",
                "error",
                message="too many handlers outlived their timeout in threads that cannot be "
                "cancelled: this worker drains and exits, so that it can be started afresh",
            )
        await cancel(stopped, exhausted)
        for part in parts:
            if part in done:
                part.result()


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(problem["msg"].removeprefix("Value error, ") for problem in error.errors())
    return str(error) or type(error).__name__


def mailer_of(settings: Settings) -> Mailer | None:
    """What sends mails, where the settings name a server.

    Raises:
        ConfigurationError: they do not name it by a URL that is one.
    """
    if settings.smtp_url is None:
        return None
    return Mailer(settings.smtp_url.get_secret_value(), settings.smtp_from)


async def register(
    connection: Connection, functions: Functions, apps: Sequence[App]
) -> dict[tuple[str, int], str]:
    """Registers the definitions of apps: for each (type, version) ``registered``, ``updated`` or
    ``unchanged``.

    Raises:
        DefinitionError: a definition has other steps than the registered one, whose sagas live.
    """
    done = {}
    for app in apps:
        for (type_, version), saga in app.sagas.items():
            with translated():
                done[type_, version] = await functions.register(
                    connection,
                    type_,
                    version,
                    describe_steps(saga),
                    describe_input(saga),
                    saga.deadline,
                )
                await functions.declare_limits(connection, type_, version, describe_limits(saga))
    return done


async def register_subscribers(connection: Connection, schema: str, apps: Sequence[App]) -> None:
    """Makes the subscribers of apps known.

    Raises:
        DefinitionError: a webhook has the name of one of them.
    """
    functions = EventFunctions(schema)
    for app in apps:
        for name, subscriber in app.subscribers.items():
            with translated():
                await functions.register_subscriber(
                    connection, name, subscriber.patterns, subscriber.policy
                )


async def cancel(*tasks: asyncio.Task[None] | asyncio.Task[bool]) -> None:
    """Cancels tasks and waits for their ends."""
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task

"""When an effect may begin: on a young heartbeat, and early enough to end by its row's deadline."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest

from outbox import App, Command, Saga
from tests.engine.bench import Bench, Note, Running, make_saga, until
from tests.postgres.proxy import CommitDroppingProxy

TIMEOUT = 5.0


class Begun:
    """What each handler saw as it began: whether its worker's heartbeat was young enough, and
    whether the deadline in its row left it the whole of its time."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.running: Running | None = None
        self.seen: list[tuple[str, bool, bool]] = []

    def note(self, kind: str, saga_id: UUID) -> None:
        assert self.running is not None
        fresh = self.running.worker.lease.is_fresh
        with self._bench.schema.connect() as connection:
            row = connection.execute(
                "select extract(epoch from deadline - clock()) from outbox where id = %s",
                (saga_id,),
            ).fetchone()
        assert row is not None
        # What it takes to get here and to ask is short of the hold, by much.
        self.seen.append((kind, fresh, float(row[0]) >= TIMEOUT))

    def add_step(self, saga: Saga[Note], kind: str) -> None:
        """A step of a kind that notes how it begins."""

        async def begin(cmd: Command[Note]) -> None:
            self.note(kind, cmd.saga_id)

        def begin_in_thread(cmd: Command[Note]) -> None:
            self.note(kind, cmd.saga_id)

        async def begin_in_transaction(cmd: Command[Note], tx: Any) -> None:
            self.note(kind, cmd.saga_id)

        async def begin_together(cmds: Sequence[Command[Note]], tx: Any) -> list[None]:
            for cmd in cmds:
                self.note(kind, cmd.saga_id)
            return [None for _ in cmds]

        match kind:
            case "coroutine":
                saga.step(name="begin", nothing_to_undo="it notes", timeout=TIMEOUT)(begin)
            case "thread":
                saga.step(name="begin", nothing_to_undo="it notes", timeout=TIMEOUT)(
                    begin_in_thread
                )
            case "transactional":
                saga.step(name="begin", transactional=True, pivot=True, timeout=TIMEOUT)(
                    begin_in_transaction
                )
            case _:
                saga.step(name="begin", transactional=True, bulk=True, pivot=True, timeout=TIMEOUT)(
                    begin_together
                )


@pytest.mark.parametrize("kinds", ["coroutine thread transactional", "bulk"])
@pytest.mark.parametrize("too_late", [False, True], ids=["old heartbeat", "and too late"])
async def test_an_effect_waits_for_a_heartbeat_and_goes_back_if_that_takes_too_long(
    bench: Bench, proxy: CommitDroppingProxy, kinds: str, too_late: bool
) -> None:
    """However it is to begin: at once, in a thread, or in a transaction that is open already."""
    hold = 0.5 if too_late else 30.0
    await bench.rows("update setting set hold = make_interval(secs => %s)", hold)
    begun, go_on, waiting = Begun(bench), asyncio.Event(), list[UUID]()
    sagas = []
    for kind in kinds.split():
        saga = make_saga()

        @saga.step(nothing_to_undo="it only waits", timeout=60)
        async def wait(cmd: Command[Note]) -> None:
            waiting.append(cmd.saga_id)
            await go_on.wait()

        begun.add_step(saga, kind)
        sagas.append(saga)
    async with bench.worker(App(sagas), dsn=proxy.before(bench.schema.dsn), lease=2.0) as running:
        begun.running = running
        for saga in sagas:
            await bench.start(saga)
        await until(lambda: len(waiting) == len(sagas))
        # From now on every heartbeat is lost; the other connections work.
        proxy.drop_before(b"heartbeat", None)
        await until(lambda: not running.worker.lease.is_fresh)
        go_on.set()

        async def are_in_hand() -> bool:
            return await bench.rows(
                "select count(*) from outbox where step = 'begin' and worker is not null "
                "and (not %s or deadline < clock() + make_interval(secs => %s))",
                *(too_late, TIMEOUT),
            ) == [(len(sagas),)]

        await until(are_in_hand)
        assert begun.seen == []
        proxy.disarm()
        await bench.all_settled()
    assert sorted(begun.seen) == sorted((kind, True, True) for kind in kinds.split())


async def test_what_took_long_to_claim_goes_back(bench: Bench) -> None:
    """The deadline in the row counts from the claim's beginning, so the worker's does too."""
    await bench.rows("update setting set hold = '0.5 s'")
    begun, saga = Begun(bench), make_saga()
    begun.add_step(saga, "coroutine")
    await bench.register(saga)
    await bench.rows("select set_limit(%s, 'few', 5)", saga.type)

    async def is_asleep() -> bool:
        return bool(await bench.rows("select 1 from worker where idle"))

    async with bench.worker(saga, lease=60.0, poll=60.0) as running, bench.connection() as other:
        begun.running = running
        await until(is_asleep)
        async with other.transaction():
            await other.execute("select from gate for update")
            await bench.start(saga)  # which it is woken for

            async def has_waited_long() -> bool:
                return bool(
                    await bench.rows(
                        "select 1 from pg_stat_activity where wait_event_type = 'Lock' and "
                        "application_name = 'outbox claim' and datname = current_database() and "
                        "query_start < clock_timestamp() - interval '0.6 s'"
                    )
                )

            await until(has_waited_long)
        await bench.all_settled()
    assert begun.seen == [("coroutine", True, True)]

"""Who has lost its lease begins nothing and commits nothing; who lives keeps what it holds."""

import asyncio
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from outbox import Command, Saga
from outbox.store.embedded import EmbeddedServer
from outbox.telemetry import Level
from tests.conftest import ServerFactory
from tests.engine.bench import Bench, Note, make_saga, until
from tests.fixtures import fresh_schema
from tests.postgres.proxy import CommitDroppingProxy


class Gate:
    """A saga whose first step waits for a word, and what its handlers did."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.go_on = asyncio.Event()
        self.saga: Saga[Note] = make_saga()

        @self.saga.step(nothing_to_undo="it only waits")
        async def wait(cmd: Command[Note]) -> None:
            self.began.append(f"wait {cmd.attempt}")
            await self.go_on.wait()

        @self.saga.step(nothing_to_undo="it does nothing")
        async def then(cmd: Command[Note]) -> None:
            self.began.append("then")


async def test_without_a_heartbeat_no_effect_begins(
    bench: Bench, proxy: CommitDroppingProxy
) -> None:
    gate = Gate()
    async with bench.worker(gate.saga, dsn=proxy.before(bench.schema.dsn), lease=3.0) as running:
        # From now on every heartbeat is lost; the other connections work.
        await until(lambda: bool(running.events("worker_registered")))
        proxy.drop_before(b"heartbeat", None)
        await until(lambda: not running.worker.lease.is_fresh)
        await bench.start(gate.saga)
        await until(lambda: bool(running.events("worker_lost")) or _troubled(running.told, 4))
        assert gate.began == []
        proxy.disarm()
        gate.go_on.set()
        await bench.all_settled()
    assert gate.began == ["wait 1", "then"]


def _troubled(told: list[tuple[str, Level, dict[str, Any]]], times: int) -> bool:
    names = [f["connection"] for event, _, f in told if event == "database_trouble"]
    return names.count("outbox lease") >= times


async def test_a_reaped_worker_registers_anew_and_its_old_attempts_are_refused(
    bench: Bench,
) -> None:
    gate = Gate()
    async with bench.worker(gate.saga, concurrency=1) as running:
        saga_id = await bench.start(gate.saga)
        await until(lambda: gate.began == ["wait 1"])
        # As a reaper does that believes it to be dead.
        await bench.rows("delete from worker")
        await until(lambda: len(running.events("worker_registered")) == 2)
        await until(lambda: bool(running.events("command_reaped")))
        gate.go_on.set()
        await until(lambda: bool(running.events("outcome_refused")))
        assert (await bench.settled(saga_id)).status == "COMPLETED"
        first, second = running.events("worker_registered")
        assert first["worker"] != second["worker"]
    assert gate.began == ["wait 1", "wait 2", "then"]
    assert [o for _, _, o in await bench.history(saga_id)] == ["in_doubt", "done", "done"]
    assert await bench.violations() == []


async def test_a_loss_that_is_noticed_twice_at_once_is_one_new_registration(bench: Bench) -> None:
    """A claim may learn of it just when the next heartbeat does."""
    async with bench.worker(Gate().saga, lease=30.0, poll=60.0) as running:
        await bench.rows("delete from worker")
        lease = running.worker.lease
        await asyncio.gather(lease.beat(), lease.beat(), lease.beat())
        assert await bench.rows("select id from worker") == [(lease.worker,)]
        assert len(running.events("worker_lost")) == 1


async def test_a_dead_workers_command_is_run_again_by_a_live_one(bench: Bench) -> None:
    gate = Gate()
    async with bench.worker(gate.saga) as doomed:
        saga_id = await bench.start(gate.saga)
        await until(lambda: gate.began == ["wait 1"])
        await doomed.crash()
        gate.go_on.set()
        async with bench.worker(gate.saga):
            assert (await bench.settled(saga_id)).status == "COMPLETED"
    assert gate.began == ["wait 1", "wait 2", "then"]


async def test_a_claim_whose_answer_was_lost_is_released_long_before_the_lease_ends(
    bench: Bench, proxy: CommitDroppingProxy
) -> None:
    gate = Gate()
    gate.go_on.set()
    await bench.register(gate.saga)
    saga_id = await bench.start(gate.saga)
    proxy.drop_after_statement(b"claim", 1)
    async with bench.worker(
        gate.saga, dsn=proxy.before(bench.schema.dsn), listen_dsn=bench.schema.dsn, lease=300.0
    ) as running:
        assert (await bench.settled(saga_id)).status == "COMPLETED"
        assert len(running.events("stray_command_released")) == 1
    assert gate.began == ["wait 1", "then"]


# Seconds of a lease that a worker keeps on a busy machine too, though it has to be quick.
LONGER = 2.5


@pytest.fixture
def own_server(server_factory: ServerFactory) -> Iterator[tuple[EmbeddedServer, Bench]]:
    """A server that the test may stop, and a bench on it."""
    server = server_factory()
    with fresh_schema(server.dsn) as schema:
        yield server, Bench(schema)


async def test_nobody_is_reaped_because_the_database_was_away(
    own_server: tuple[EmbeddedServer, Bench],
) -> None:
    (server, bench), gate = own_server, Gate()
    async with (
        bench.worker(gate.saga, lease=1.0) as one,
        bench.worker(gate.saga, lease=1.0) as two,
    ):
        sagas = await bench.start_many(gate.saga, 4)
        await until(lambda: len(gate.began) == 4)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, server.stop)
        away = loop.time()
        await until(lambda: loop.time() > away + 1.5, message="longer than the lease")
        await loop.run_in_executor(None, server.start)
        await until(lambda: bool(one.events("database_back") and two.events("database_back")))
        gate.go_on.set()
        for saga_id in sagas:
            assert (await bench.settled(saga_id)).status == "COMPLETED"
        told = one.told + two.told
        assert [name for name, _, _ in told if name in ("worker_lost", "command_reaped")] == []
    assert sorted(gate.began) == ["then"] * 4 + ["wait 1"] * 4


@pytest.mark.soak  # on a machine with five times its work a worker may miss this lease by itself
async def test_nobody_is_reaped_because_the_database_stood_still(
    own_server: tuple[EmbeddedServer, Bench],
) -> None:
    """As it does with its machine, or behind a PgBouncer that was told to pause: no connection is
    lost, and what was asked meanwhile is answered at once, in any order."""
    (server, bench), gate = own_server, Gate()
    async with (
        bench.worker(gate.saga, lease=LONGER) as one,
        bench.worker(gate.saga, lease=LONGER) as two,
    ):
        sagas = await bench.start_many(gate.saga, 4)
        await until(lambda: len(gate.began) == 4)
        loop = asyncio.get_running_loop()
        since = loop.time()
        await until(lambda: loop.time() > since + LONGER, message="both may reap")
        async with bench.connection() as looker:
            assert server.pid is not None
            postmaster = psutil.Process(server.pid)
            frozen = [postmaster, *postmaster.children()]
            reapers = {
                pid
                for (pid,) in await bench.rows(
                    "select pid from pg_stat_activity where application_name = 'outbox reap'"
                )
            }
            for process in frozen:
                process.suspend()
            since = loop.time()
            await until(lambda: loop.time() > since + 1.5 * LONGER, message="a lease")

            async def have_reaped() -> bool:
                cursor = await looker.execute(
                    "select 1 from pg_stat_activity where pid = any (%s) and state <> 'idle'",
                    (list(reapers),),
                )
                return await cursor.fetchone() is None

            for process in frozen:  # those who reap before those who beat
                if process.pid in reapers | {looker.info.backend_pid}:
                    process.resume()
            await until(have_reaped)
            for process in frozen:
                process.resume()
        await until(lambda: one.worker.lease.is_fresh and two.worker.lease.is_fresh)
        gate.go_on.set()
        for saga_id in sagas:
            assert (await bench.settled(saga_id)).status == "COMPLETED"
        told = one.told + two.told
        assert [name for name, _, _ in told if name in ("worker_lost", "command_reaped")] == []
    assert sorted(gate.began) == ["then"] * 4 + ["wait 1"] * 4

"""A database that goes away, stands still, is another one, or has limits of time: what a worker
makes of it, and what it tells whoever is on call."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo

from outbox import App, Command
from outbox.engine import wake
from outbox.engine.link import InterruptedStatementError, Links
from outbox.store.connect import complete_dsn
from outbox.telemetry import Telemetry
from outbox.worker import Worker
from tests.engine.bench import Bench, Note, make_saga, until
from tests.postgres.stalling import StallingProxy


async def test_statements_on_a_server_that_was_replaced_are_not_waited_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wake, "_LOOK_ANEW", 0.5)
    saga, go_on, ran = make_saga(), asyncio.Event(), list[str]()

    @saga.step(nothing_to_undo="it only waits")
    async def wait(cmd: Command[Note]) -> None:
        ran.append(cmd.input.text)
        await go_on.wait()

    @saga.step(nothing_to_undo="it does nothing", transactional=True)
    async def write(cmd: Command[Note], tx: Any) -> None:
        await tx.execute("select 1")

    proxy = StallingProxy(bench.schema.dsn)
    async with proxy.running(), bench.worker(saga, dsn=proxy.dsn, lease=1.0) as running:
        first = await bench.start(saga, "first")
        await until(lambda: ran == ["first"])
        proxy.stall()
        go_on.set()
        second = await bench.start(saga, "second")
        for saga_id in (first, second):
            assert (await bench.settled(saga_id)).status == "COMPLETED"
        given_up = {told["connection"] for told in running.events("connection_given_up")}
        assert "outbox claim" in given_up
        # What listens waits for no statement; it asks for itself now and then.
        await until(
            lambda: any(
                told["connection"] == "outbox listen"
                for told in running.events("connection_given_up")
            )
        )
    assert await bench.violations() == []


async def test_who_waits_for_a_lock_says_whose(bench: Bench) -> None:
    saga = make_saga()

    @saga.step(nothing_to_undo="it does nothing")
    async def nothing(cmd: Command[Note]) -> None: ...

    async with bench.worker(saga, lease=1.0) as running:
        saga_id = await bench.start(saga)
        await bench.settled(saga_id)
        async with bench.connection() as other, other.transaction():
            await other.execute("lock table outbox in access exclusive mode")
            mine = f"a lock that pid {other.info.backend_pid} has"
            await until(lambda: any(mine in t["message"] for t in running.events("database_slow")))
        saga_id = await bench.start(saga)
        assert (await bench.settled(saga_id)).status == "COMPLETED"
        assert running.events("connection_given_up") == []


async def test_a_batch_that_exceeds_the_databases_limit_of_time_is_halved(bench: Bench) -> None:
    saga = make_saga()

    @saga.step(nothing_to_undo="it does nothing")
    async def nothing(cmd: Command[Note]) -> None: ...

    @saga.step(nothing_to_undo="it does nothing", transactional=True)
    async def write(cmd: Command[Note], tx: Any) -> None: ...

    await bench.register(saga)
    await bench.rows(
        "create function be_slow() returns trigger language plpgsql as "
        "$$ begin perform pg_sleep(0.05); return new; end $$"
    )
    await bench.rows(
        "create trigger be_slow before insert on transition for each row execute function be_slow()"
    )
    await bench.start_many(saga, 24)
    limited = make_conninfo(bench.schema.dsn, options="-c statement_timeout=400ms")
    async with bench.worker(saga, dsn=limited, lease=10.0) as running:
        await bench.all_settled(20)
        troubles = {told["sqlstate"] for told in running.events("database_trouble")}
        assert troubles == {"57014"}
    assert await bench.rows("select distinct status from overview") == [("COMPLETED",)]


async def test_a_server_that_can_only_be_read_is_left(bench: Bench) -> None:
    links = Links(bench.schema.dsn, prepared_statements=False, telemetry=Telemetry())
    pids = []

    async def work(connection: Any) -> None:
        pids.append(connection.info.backend_pid)
        if len(pids) == 1:
            await connection.execute("set default_transaction_read_only = on")
        await connection.execute("create table written (n int)")

    async with links:
        link = links.make("moved")
        with pytest.raises(InterruptedStatementError):
            await link.once(work)
        await link.once(work)
    assert pids[0] != pids[1]


def test_of_several_hosts_the_one_that_can_be_written_to_is_meant() -> None:
    assert "target_session_attrs=read-write" in complete_dsn("postgresql://a,b/d")
    assert "target_session_attrs=any" in complete_dsn("postgresql://a,b/d?target_session_attrs=any")
    assert "target_session_attrs" not in complete_dsn("postgresql://a/d")


async def test_a_worker_that_cannot_register_can_be_stopped(bench: Bench) -> None:
    saga = make_saga()

    @saga.step(nothing_to_undo="it does nothing")
    async def nothing(cmd: Command[Note]) -> None: ...

    await bench.register(saga)
    told = list[str]()
    telemetry = Telemetry(lambda event, _level, _fields: told.append(event))
    settings = bench.settings()
    worker = Worker([App([saga])], settings, bench.schema.dsn, telemetry)
    async with bench.connection() as other, other.transaction():
        await other.execute("lock table worker in access exclusive mode")
        running = asyncio.create_task(worker.run())
        waiting = (
            "select 1 from pg_stat_activity where application_name = 'outbox lease' "
            "and wait_event_type = 'Lock' and datname = current_database()"
        )
        await until(lambda: _any(bench, waiting))
        worker.stop()
        async with asyncio.timeout(10):
            await running
    assert told[-1] == "worker_not_begun"
    assert await bench.rows("select 1 from worker") == []


async def _any(bench: Bench, statement: str) -> bool:
    return bool(await bench.rows(statement))


async def test_sagas_go_on_without_the_scheduler(bench: Bench) -> None:
    saga = make_saga()

    @saga.step(nothing_to_undo="it does nothing")
    async def nothing(cmd: Command[Note]) -> None: ...

    await bench.rows("alter table pgqueuer_schedules rename to was_schedules")
    async with bench.worker(saga) as running:
        await until(lambda: bool(running.events("schedules_interrupted")))
        saga_id = await bench.start(saga)
        assert (await bench.settled(saga_id)).status == "COMPLETED"
        assert "run bin/saga migrate" in running.events("schedules_interrupted")[0]["error"]
        await bench.rows("alter table was_schedules rename to pgqueuer_schedules")

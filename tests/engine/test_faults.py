"""What handlers, connections and the database may do wrong at the worst moment, and what a worker
makes of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from outbox import App, Command, Event, Retry, Subscriber
from outbox.engine.link import Links
from outbox.telemetry import Telemetry
from tests.engine.bench import Bench, Note, make_saga, until
from tests.engine.hanging import saga as hanging
from tests.payments.world import WorkerProcess

ONCE = Retry(attempts=1)


async def test_many_who_need_a_link_at_once_make_one_connection(bench: Bench) -> None:
    name = "outbox crowded"
    links = Links(bench.schema.dsn, prepared_statements=False, telemetry=Telemetry())
    async with links:
        link = links.make("crowded")

        async def count(connection: Any) -> int:
            cursor = await connection.execute(
                "select count(*) from pg_stat_activity where application_name = %s", (name,)
            )
            return int((await cursor.fetchone())[0])

        counted = await asyncio.gather(*(link.run(count) for _ in range(20)))
    assert max(counted) == 1


async def test_a_plain_function_may_raise_what_no_future_takes(bench: Bench) -> None:
    saga = make_saga()

    @saga.step(nothing_to_undo="it only fails", retry=ONCE, timeout=20)
    def fail(cmd: Command[Note]) -> None:
        errors: dict[str, BaseException] = {
            "stop": StopIteration(),
            "interrupt": KeyboardInterrupt(),
            "exit": GeneratorExit(),
        }
        raise errors[cmd.input.text]

    async with bench.worker(saga, threads=2):
        for text in ("stop", "stop", "stop", "interrupt", "exit"):
            saga_id = await bench.start(saga, text)
            assert (await bench.settled(saga_id, 10)).status == "FAILED"


async def test_a_coroutine_may_raise_anything(bench: Bench) -> None:
    saga = make_saga()

    @saga.step(nothing_to_undo="it only fails", retry=ONCE, timeout=20)
    async def fail(cmd: Command[Note]) -> None:
        errors: dict[str, BaseException] = {
            "cancelled": asyncio.CancelledError(),
            "system": SystemExit(3),
        }
        raise errors[cmd.input.text]

    async with bench.worker(saga):
        for text in ("system", "cancelled"):
            saga_id = await bench.start(saga, text)
            assert (await bench.settled(saga_id, 10)).status == "FAILED"


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError("it cannot even say what it is")


async def test_a_reconcile_may_answer_anything(bench: Bench) -> None:
    saga = make_saga()

    @saga.step(nothing_to_undo="it only fails", retry=ONCE, timeout=0.2)
    async def fail(cmd: Command[Note]) -> None:
        raise RuntimeError("in doubt")

    @fail.reconcile(retry=ONCE)
    async def ask(cmd: Command[Note]) -> Any:
        return Unspeakable()

    await bench.rows("update setting set grace = '0 s'")
    async with bench.worker(saga, concurrency=1):
        for saga_id in await bench.start_many(saga, 2):
            assert (await bench.settled(saga_id, 10)).status == "SUSPENDED"
            assert (await bench.errors(saga_id))[-1]["type"] == "NoAnswer"


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError()])
async def test_a_subscriber_may_raise_anything(bench: Bench, error: BaseException) -> None:
    saga, heard = make_saga(), list[int]()

    @saga.step(nothing_to_undo="it only tells")
    async def tell(cmd: Command[Note]) -> None:
        cmd.emit("note.told")

    async def leave(event: Event) -> None:
        heard.append(event.attempt)
        raise error

    subscriber = Subscriber("leaves", ["*"], leave, attempts=3, backoff=0.01, backoff_cap=0.02)
    async with bench.worker(App([saga], subscribers=[subscriber])) as running:
        await bench.start(saga)
        await until(lambda: bool(running.events("dead_letter")), 10)
    assert heard == [1, 2, 3]


async def test_heartbeats_go_on_while_a_claim_waits(bench: Bench) -> None:
    """It may do so for long, as on a server process that hangs; what is in hand goes on."""
    saga, go_on, began = make_saga(), asyncio.Event(), asyncio.Event()

    @saga.step(nothing_to_undo="it only waits")
    async def wait(cmd: Command[Note]) -> None:
        began.set()
        await go_on.wait()

    async with bench.worker(saga, lease=1.0, poll=60.0, concurrency=2) as running:
        saga_id = await bench.start(saga)
        await began.wait()
        async with stopped(bench, "outbox claim"):
            await bench.start(saga)  # which it is woken for
            beats = set[Any]()

            async def has_beaten() -> bool:
                beats.update(await bench.rows("select heartbeat_at from worker"))
                return len(beats) > 15

            await until(has_beaten, 8, "three leases, at a heartbeat every fifth of one")
            go_on.set()
            assert (await bench.settled(saga_id)).status == "COMPLETED"
        assert running.events("worker_lost") == []
        await bench.all_settled()


@contextlib.asynccontextmanager
async def stopped(bench: Bench, name: str) -> AsyncIterator[None]:
    """Meanwhile the server's process of this connection hangs, while it has nothing to do."""
    while True:
        ((pid,),) = await bench.rows(
            "select pid from pg_stat_activity "
            "where application_name = %s and datname = current_database()",
            name,
        )
        os.kill(pid, signal.SIGSTOP)
        if await bench.rows(
            "select 1 from pg_stat_activity where pid = %s and state = 'idle'", pid
        ):
            break
        os.kill(pid, signal.SIGCONT)
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_a_heartbeat_whose_server_process_hangs_is_made_on_another_connection(
    bench: Bench,
) -> None:
    saga = make_saga()

    @saga.step(nothing_to_undo="it does nothing")
    async def nothing(cmd: Command[Note]) -> None: ...

    async with bench.worker(saga, lease=1.0) as running:
        lease = running.worker.lease
        async with stopped(bench, "outbox lease"):
            await until(lambda: not lease.is_fresh)
            await until(lambda: lease.is_fresh, 3, "it beats again")
        saga_id = await bench.start(saga)
        assert (await bench.settled(saga_id)).status == "COMPLETED"


async def test_an_outcome_beyond_a_limit_of_postgres_fails_alone(bench: Bench) -> None:
    """Its SQLSTATE is of a class of operational errors, and will be at every try."""
    saga = make_saga()

    @saga.step(nothing_to_undo="it does nothing", retry=ONCE)
    async def answer(cmd: Command[Note]) -> str:
        return cmd.input.text

    await bench.rows(
        "create function refuse() returns trigger language plpgsql as $$ begin "
        "if new.result::text like '%%huge%%' then raise exception 'string too long' "
        "using errcode = 'program_limit_exceeded'; end if; return new; end $$"
    )
    await bench.rows(
        "create trigger refuse before insert on transition for each row execute function refuse()"
    )
    async with bench.worker(saga):
        huge = await bench.start(saga, "huge")
        small = await bench.start(saga, "small")
        assert (await bench.settled(small, 10)).status == "COMPLETED"
        assert (await bench.settled(huge, 10)).status == "FAILED"


async def test_transactions_whose_server_processes_hang_do_not_end_the_worker(
    bench: Bench, tmp_path: Path
) -> None:
    """In a process, for what becomes of a connection under a statement is a matter of its memory,
    and of uvloop."""
    await bench.register(hanging)
    sagas = await bench.start_many(hanging, 12)
    settings = {"OUTBOX_DSN": bench.schema.dsn, "OUTBOX_SCHEMA": bench.schema.name}
    worker = WorkerProcess(
        {
            **settings,
            "OUTBOX_LEASE": "60",
            "OUTBOX_LOG_FORMAT": "json",
            "OUTBOX_TRANSACTIONS": "12",
            "OUTBOX_CONCURRENCY": "1",
            "MALLOC_PERTURB_": "165",  # so that what is used after it was freed is noticed
        },
        tmp_path / "log",
        "tests.engine.hanging:app",
    )
    hung: list[int] = []
    try:
        while len(hung) < 3 and worker.process.poll() is None:
            for (pid,) in await bench.rows(
                "select pid from pg_stat_activity where query like 'select ''hanging%%' "
                "and state = 'active' and datname = current_database() and pid <> all (%s)",
                hung,
            ):
                os.kill(pid, signal.SIGSTOP)
                hung.append(pid)
            await asyncio.sleep(0.02)
        await until(
            lambda: (
                len(worker.events("late_result_refused")) >= 3 or worker.process.poll() is not None
            )
        )
        while hung:
            os.kill(hung.pop(), signal.SIGCONT)
        for saga_id in sagas:
            assert (await bench.settled(saga_id)).status == "FAILED"
        assert worker.terminate() == 0, worker.log.read_text()[-3000:]
    finally:
        for pid in hung:
            os.kill(pid, signal.SIGCONT)
        if worker.process.poll() is None:
            worker.kill()

"""Transactional steps: a handler's writes are there exactly when its transition is."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pytest
from psycopg import AsyncConnection

from outbox import Command, Retry, Saga
from tests.engine.bench import Bench, Note, make_saga, until
from tests.postgres.proxy import CommitDroppingProxy

Tx = AsyncConnection[Any]
TWICE = Retry(attempts=2, base=0, cap=0)


@pytest.fixture(autouse=True)
async def ledger(bench: Bench) -> None:
    """What the handlers write to: each row with the transaction that wrote it."""
    await bench.rows(
        "create table entry (saga_id uuid, note text, attempt integer, "
        "xact xid8 default pg_current_xact_id())"
    )


def make_booking(
    trouble: Callable[[Command[Note], Tx], Awaitable[None]] | None = None, retry: Retry = TWICE
) -> Saga[Note]:
    """A saga of one transactional step, which writes one entry and then may have trouble."""
    saga = make_saga()

    @saga.step(transactional=True, pivot=True, retry=retry, timeout=5)
    async def book(cmd: Command[Note], tx: Tx) -> str:
        table = psycopg.sql.SQL("insert into {}.entry values (%s, %s, %s)").format(
            psycopg.sql.Identifier(SCHEMA[0])
        )
        await tx.execute(table, (cmd.saga_id, cmd.input.text, cmd.attempt))
        if trouble is not None:
            await trouble(cmd, tx)
        return "booked"

    return saga


SCHEMA = [""]


@pytest.fixture(autouse=True)
def schema_name(bench: Bench) -> None:
    SCHEMA[0] = bench.schema.name


async def entries(bench: Bench) -> list[tuple[str, int]]:
    """What was written, as (note, how often)."""
    return await bench.rows("select note, count(*) from entry group by note order by note")


async def outcomes(bench: Bench) -> dict[str, list[str]]:
    """The outcomes of each saga's step, by its text."""
    found = await bench.rows(
        "select i.input ->> 'text', array_agg(t.outcome::text order by t.seq) from transition t "
        "join instance i on i.id = t.saga_id group by 1"
    )
    return dict(found)


async def test_writes_and_transition_are_one_commit(bench: Bench) -> None:
    saga = make_booking()
    async with bench.worker(saga):
        assert (await bench.settled(await bench.start(saga, "a"))).output == "booked"
    same = await bench.rows("select e.xact::text = t.xmin::text from entry e, transition t")
    assert same == [(True,)]


async def test_under_load_commands_share_a_transaction(bench: Bench) -> None:
    saga = make_booking()
    await bench.register(saga)
    await bench.start_many(saga, 300)
    async with bench.worker(saga):
        await bench.all_settled()
    ((written, transactions),) = await bench.rows(
        "select count(*), count(distinct xact) from entry"
    )
    assert written == 300
    assert transactions < 150
    assert await bench.violations() == []


async def raise_in_python(cmd: Command[Note], tx: Tx) -> None:
    if cmd.input.text == "7":
        raise ValueError("not this one")


async def raise_in_sql(cmd: Command[Note], tx: Tx) -> None:
    if cmd.input.text == "7":
        await tx.execute("select 1 / 0")


async def swallow_an_sql_error(cmd: Command[Note], tx: Tx) -> None:
    if cmd.input.text == "7":
        with pytest.raises(psycopg.errors.DivisionByZero):
            await tx.execute("select 1 / 0")


async def hang(cmd: Command[Note], tx: Tx) -> None:
    if cmd.input.text == "7":
        await tx.execute("select pg_sleep(60)")


async def commit(cmd: Command[Note], tx: Tx) -> None:
    if cmd.input.text == "7":
        await tx.commit()


async def roll_back(cmd: Command[Note], tx: Tx) -> None:
    if cmd.input.text == "7":
        await tx.rollback()


async def close(cmd: Command[Note], tx: Tx) -> None:
    if cmd.input.text == "7":
        await tx.close()


async def close_by_context(cmd: Command[Note], tx: Tx) -> None:
    if cmd.input.text == "7":
        async with tx:
            await tx.execute("select 1")


async def roll_back_in_sql(cmd: Command[Note], tx: Tx) -> None:
    if cmd.input.text == "7":
        await tx.execute("rollback")


@pytest.mark.parametrize(
    ("trouble", "type_", "says"),
    [
        (raise_in_python, "ValueError", "not this one"),
        (raise_in_sql, "DivisionByZero", "division by zero"),
        (swallow_an_sql_error, "TransactionAborted", "tx.transaction()"),
        (commit, "ProgrammingError", "forbidden"),
        (roll_back, "ProgrammingError", "forbidden"),
        (close, "TransactionEnded", "closed its connection"),
        (close_by_context, "ProgrammingError", "forbidden"),
        (roll_back_in_sql, "TransactionEnded", "ended its transaction"),
    ],
)
async def test_one_members_failure_is_its_own(
    bench: Bench, trouble: Callable[[Command[Note], Tx], Awaitable[None]], type_: str, says: str
) -> None:
    saga = make_booking(trouble)
    await bench.register(saga)
    sagas = await bench.start_many(saga, 20)
    async with bench.worker(saga, transactions=1) as running:
        await bench.all_settled()
        assert not running.events("outcome_refused")
    assert await entries(bench) == sorted((str(n), 1) for n in range(20) if n != 7)
    by_text = await outcomes(bench)
    assert by_text.pop("7")[-1] == "rejected"
    assert set(map(tuple, by_text.values())) == {("done",)}
    error = (await bench.errors(sagas[7]))[0]
    assert error["type"] == type_
    assert says in error["message"]
    assert await bench.violations() == []


@pytest.mark.parametrize("statement", [None, "select 1 / 0"])
async def test_of_many_failures_in_a_group_each_undoes_its_own_writes_only(
    bench: Bench, statement: LiteralString | None
) -> None:
    calls: Counter[str] = Counter()

    async def trouble(cmd: Command[Note], tx: Tx) -> None:
        calls[cmd.input.text] += 1
        if int(cmd.input.text) % 4 == 1:
            if statement is not None:
                await tx.execute(statement)
            raise ValueError("not this one")

    saga = make_booking(trouble, Retry(attempts=1))
    await bench.register(saga)
    await bench.start_many(saga, 80)
    async with bench.worker(saga, transactions=1):
        await bench.all_settled()
    bad = {str(n) for n in range(80) if n % 4 == 1}
    assert await entries(bench) == sorted((str(n), 1) for n in range(80) if str(n) not in bad)
    ended = {text: found[-1] for text, found in (await outcomes(bench)).items()}
    assert {text for text, outcome in ended.items() if outcome == "rejected"} == bad
    assert all(calls[text] == 1 for text in bad), "a failure is not called again"
    assert calls.total() < 2 * 80, "savepoints keep most of the others of the group"
    assert await bench.violations() == []


async def test_a_statement_that_hangs_ends_with_its_attempt(bench: Bench) -> None:
    saga = make_saga()

    @saga.step(transactional=True, pivot=True, retry=Retry(attempts=1), timeout=0.3)
    async def book(cmd: Command[Note], tx: Tx) -> None:
        await hang(cmd, tx)

    await bench.register(saga)
    sagas = await bench.start_many(saga, 10)
    async with bench.worker(saga, transactions=1):
        await bench.all_settled()
    assert (await outcomes(bench))["7"] == ["rejected"]
    assert (await bench.errors(sagas[7]))[0]["type"] == "Timeout"
    ((completed,),) = await bench.rows("select count(*) from instance where status = 'COMPLETED'")
    assert completed == 9


async def test_a_constraint_that_is_checked_at_the_commit_fails_only_who_broke_it(
    bench: Bench,
) -> None:
    await bench.rows(
        "create table merchant (name text primary key); "
        "insert into merchant select n::text from generate_series(0, 19) n where n <> 7; "
        "alter table entry add foreign key (note) references merchant deferrable initially deferred"
    )
    saga = make_booking()
    await bench.register(saga)
    sagas = await bench.start_many(saga, 20)
    async with bench.worker(saga, transactions=1):
        await bench.all_settled()
    assert await entries(bench) == sorted((str(n), 1) for n in range(20) if n != 7)
    assert (await bench.errors(sagas[7]))[0]["type"] == "ForeignKeyViolation"
    assert set(map(tuple, (await outcomes(bench)).values())) == {("done",), ("retry", "rejected")}


async def test_a_deadlock_between_two_groups_is_over_in_the_end(bench: Bench) -> None:
    await bench.rows("create table account (id integer primary key, balance integer default 0)")
    await bench.rows("insert into account (id) values (0), (1)")
    met = asyncio.Barrier(2)

    async def cross(cmd: Command[Note], tx: Tx) -> None:
        mine = int(cmd.input.text)
        update = psycopg.sql.SQL(
            "update {}.account set balance = balance + 1 where id = %s"
        ).format(psycopg.sql.Identifier(bench.schema.name))
        await tx.execute(update, (mine,))
        if cmd.attempt == 1 and not met.broken and met.n_waiting < 2 and not crossed:
            await met.wait()
            crossed.append(mine)
        await tx.execute(update, (1 - mine,))

    crossed: list[int] = []
    saga = make_booking(cross, Retry(attempts=5, base=0.01, cap=0.01))
    async with bench.worker(saga, transactions=2) as running:
        await bench.start(saga, "0")
        await until(lambda: met.n_waiting == 1)
        await bench.start(saga, "1")
        await bench.all_settled()
        assert [e for e in running.events("transition") if e["outcome"] == "retry"]
    assert await bench.rows("select distinct balance from account") == [(2,)]
    assert await entries(bench) == [("0", 1), ("1", 1)]


async def test_a_zombie_group_writes_nothing(bench: Bench) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()
    saga = make_saga()

    @saga.step(nothing_to_undo="it only waits")
    async def wait(cmd: Command[Note]) -> None:
        reached.set()
        await go_on.wait()

    write = make_booking().steps[0].handler
    saga.step(name="book", transactional=True, pivot=True, timeout=5)(write)
    async with bench.worker(saga, lease=60, transactions=1) as running:
        saga_id = await bench.start(saga, "a")
        await reached.wait()
        async with bench.connection() as other, other.transaction():
            # Another has locked the row that the transaction needs, and takes it over.
            await other.execute("select from outbox where id = %s for update", (saga_id,))
            go_on.set()
            await until(lambda: _waits_for_a_lock(bench))
            await other.execute(
                "update outbox set fence = fence + 1, worker = null, deadline = null"
            )
        await until(lambda: bool(running.events("outcome_refused")))
        await bench.all_settled()
    assert await entries(bench) == [("a", 1)]
    history = await bench.history(saga_id)
    assert history[-1] == ("action", "book", "done")
    assert await bench.violations() == []


async def test_what_was_taken_over_and_claimed_anew_by_the_same_worker_is_written_once(
    bench: Bench,
) -> None:
    """Two commands of one saga wait for the next transaction, and one of them has its fence."""
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def wait(cmd: Command[Note], tx: Tx) -> None:
        if cmd.input.text == "first":
            reached.set()
            await go_on.wait()

    saga = make_booking(wait)
    async with bench.worker(saga, lease=60, transactions=1, poll=0.05) as running:
        await bench.start(saga, "first")
        await reached.wait()
        twice = await bench.start(saga, "twice")
        await until(lambda: _is_held(bench, twice, 1))
        # As a reaper does that believes the worker to be dead.
        await bench.rows(
            "update outbox set fence = fence + 1, worker = null, deadline = null where id = %s",
            twice,
        )
        await until(lambda: _is_held(bench, twice, 3))
        go_on.set()
        await bench.all_settled()
        assert len(running.events("outcome_refused")) == 1
    assert await entries(bench) == [("first", 1), ("twice", 1)]
    assert await bench.violations() == []


async def _is_held(bench: Bench, saga_id: UUID, fence: int) -> bool:
    return bool(
        await bench.rows(
            "select 1 from outbox where id = %s and fence = %s and worker is not null",
            *(saga_id, fence),
        )
    )


async def _waits_for_a_lock(bench: Bench) -> bool:
    return bool(
        await bench.rows(
            "select 1 from pg_stat_activity where wait_event_type = 'Lock' "
            "and datname = current_database() and application_name like 'outbox %%'"
            " and query like '%%advance%%' and query like %s",
            f"%{bench.schema.name}%",
        )
    )


async def test_a_commit_whose_answer_is_lost_is_not_made_twice(
    bench: Bench, proxy: CommitDroppingProxy
) -> None:
    saga = make_booking()
    await bench.register(saga)
    await bench.start_many(saga, 50)
    proxy.drop_after_commit(3)
    async with bench.worker(saga, dsn=proxy.before(bench.schema.dsn), listen_dsn=bench.schema.dsn):
        await bench.all_settled()
    assert proxy.struck
    assert await entries(bench) == sorted((str(n), 1) for n in range(50))
    assert await bench.violations() == []


async def test_a_handler_that_breaks_its_connection_every_time_fails(bench: Bench) -> None:
    async def break_it(cmd: Command[Note], tx: Tx) -> None:
        await bench.rows("select pg_terminate_backend(%s)", tx.info.backend_pid)
        await tx.execute("select 1")

    saga = make_booking(break_it, Retry(attempts=1))
    async with bench.worker(saga):
        saga_id = await bench.start(saga, "a")
        assert (await bench.settled(saga_id)).status == "FAILED"
    assert await entries(bench) == []

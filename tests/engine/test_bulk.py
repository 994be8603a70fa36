"""Bulk steps: one call for the commands of many sagas, in the transaction that commits them all."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection, sql
from pydantic import BaseModel

from outbox import App, Command, Rejected, Retry, RetryAfter, Saga
from tests.engine.bench import Bench, Note, make_saga
from tests.postgres.proxy import CommitDroppingProxy

Tx = AsyncConnection[Any]
ONCE = Retry(attempts=1)
Trouble = Callable[[Sequence[Command[Note]], Tx], Awaitable[None]]


class Booked(BaseModel):
    """A result."""

    text: str


@pytest.fixture(autouse=True)
async def ledger(bench: Bench) -> None:
    """What the handlers write to: each row with the size of the call that wrote it."""
    await bench.rows("create table entry (note text, attempt integer, size integer)")


async def write(bench: Bench, cmds: Sequence[Command[Note]], tx: Tx) -> None:
    """One entry for each command, by one statement."""
    statement = sql.SQL("insert into {}.entry select *, %s from unnest(%s::text[], %s::int[])")
    await tx.execute(
        statement.format(sql.Identifier(bench.schema.name)),
        (len(cmds), [c.input.text for c in cmds], [c.attempt for c in cmds]),
    )


def make_booking(bench: Bench, trouble: Trouble | None = None, *, timeout: float = 5) -> Saga[Note]:
    """A saga of one bulk step, which writes its entries and then may have trouble."""
    saga = make_saga()

    @saga.step(transactional=True, bulk=True, pivot=True, retry=ONCE, timeout=timeout)
    async def book(cmds: Sequence[Command[Note]], tx: Tx) -> list[Booked]:
        await write(bench, cmds, tx)
        if trouble is not None:
            await trouble(cmds, tx)
        return [Booked(text=cmd.input.text) for cmd in cmds]

    return saga


async def run(bench: Bench, saga: Saga[Note], count: int = 30) -> dict[str, str]:
    """Runs sagas with the texts 0, 1, 2, … to their ends: the status of each, by its text."""
    await bench.register(saga)
    await bench.start_many(saga, count)
    async with bench.worker(saga, transactions=1):
        await bench.all_settled()
    assert await bench.violations() == []
    return dict(await bench.rows("select input ->> 'text', status from overview"))


async def entries(bench: Bench) -> list[str]:
    """The notes that were written and committed."""
    return [note for (note,) in await bench.rows("select note from entry order by note::int")]


def every(count: int, *but: int) -> list[str]:
    return [str(n) for n in range(count) if n not in but]


async def test_one_call_serves_many_sagas_and_each_gets_its_own_result(bench: Bench) -> None:
    assert set((await run(bench, make_booking(bench), 100)).values()) == {"COMPLETED"}
    assert await entries(bench) == every(100)
    ((largest,),) = await bench.rows("select max(size) from entry")
    assert largest > 10
    wrong = await bench.rows("select 1 from instance where input ->> 'text' <> output ->> 'text'")
    assert wrong == []


async def test_what_is_refused_is_refused_alone_and_the_others_are_not_tried_twice(
    bench: Bench,
) -> None:
    saga, calls = make_saga(), []

    @saga.step(transactional=True, bulk=True, nothing_to_undo="its writes are one with it")
    async def book(cmds: Sequence[Command[Note]], tx: Tx) -> list[Booked | Rejected | RetryAfter]:
        calls.append(sorted(int(cmd.input.text) for cmd in cmds))
        bad = [c for c in cmds if c.input.text == "3" or (c.input.text == "5" and c.attempt == 1)]
        good = [cmd for cmd in cmds if cmd not in bad]
        await write(bench, good, tx)
        ends: dict[str, Rejected | RetryAfter] = {}
        for cmd in bad:
            text = cmd.input.text
            ends[text] = Rejected("no", code="no") if text == "3" else RetryAfter(0.01, "busy")
        return [ends.get(c.input.text, Booked(text=c.input.text)) for c in cmds]

    ended = await run(bench, saga, 10)
    assert ended.pop("3") == "FAILED"
    assert set(ended.values()) == {"COMPLETED"}
    assert await entries(bench) == every(10, 3)
    told = [number for call in calls for number in call]
    assert sorted(told) == sorted([*range(10), 5]), "5 was tried again, and nobody else"
    ((error,),) = await bench.rows("select error from instance where status = 'FAILED'")
    assert (error["type"], error["code"]) == ("Rejected", "no")


async def raise_in_python(cmds: Sequence[Command[Note]], tx: Tx) -> None:
    if any(cmd.input.text == "7" for cmd in cmds):
        raise ValueError("not with this one")


async def raise_in_sql(cmds: Sequence[Command[Note]], tx: Tx) -> None:
    if any(cmd.input.text == "7" for cmd in cmds):
        await tx.execute("select 1 / 0")


async def swallow_an_sql_error(cmds: Sequence[Command[Note]], tx: Tx) -> None:
    if any(cmd.input.text == "7" for cmd in cmds):
        with pytest.raises(psycopg.errors.DivisionByZero):
            await tx.execute("select 1 / 0")


async def end_the_transaction(cmds: Sequence[Command[Note]], tx: Tx) -> None:
    if any(cmd.input.text == "7" for cmd in cmds):
        await tx.execute("rollback")


async def hang(cmds: Sequence[Command[Note]], tx: Tx) -> None:
    if any(cmd.input.text == "7" for cmd in cmds):
        await tx.execute("select pg_sleep(60)")


@pytest.mark.parametrize(
    ("trouble", "type_"),
    [
        (raise_in_python, "ValueError"),
        (raise_in_sql, "DivisionByZero"),
        (swallow_an_sql_error, "TransactionAborted"),
        (end_the_transaction, "TransactionEnded"),
    ],
)
async def test_of_a_call_that_fails_only_who_is_to_blame_fails(
    bench: Bench, trouble: Trouble, type_: str
) -> None:
    ended = await run(bench, make_booking(bench, trouble))
    assert ended.pop("7") == "FAILED"
    assert set(ended.values()) == {"COMPLETED"}
    assert await entries(bench) == every(30, 7)
    ((error,),) = await bench.rows("select error from instance where status = 'FAILED'")
    assert error["type"] == type_


async def test_a_call_that_hangs_costs_nobody_else_his_attempt(bench: Bench) -> None:
    ended = await run(bench, make_booking(bench, hang, timeout=0.3), 10)
    assert ended.pop("7") == "FAILED"
    assert set(ended.values()) == {"COMPLETED"}
    assert await entries(bench) == every(10, 7)
    ((error,),) = await bench.rows("select error from instance where status = 'FAILED'")
    assert error["type"] == "Timeout"


@pytest.mark.parametrize("returned", [None, [], "a text", [Booked(text="x")] * 3])
async def test_an_answer_that_fits_not_is_a_failed_attempt_of_all(
    bench: Bench, returned: Any
) -> None:
    saga = make_saga()

    @saga.step(transactional=True, bulk=True, retry=ONCE, nothing_to_undo="its writes are one")
    async def book(cmds: Sequence[Command[Note]], tx: Tx) -> list[Booked]:
        await write(bench, cmds, tx)
        found: list[Booked] = returned
        return found

    assert set((await run(bench, saga, 2)).values()) == {"FAILED"}
    assert await entries(bench) == []
    for (error,) in await bench.rows("select error from instance"):
        assert error["type"] == "WrongOutcomes"
        assert "it was given 1" in error["message"]


async def test_a_result_that_cannot_be_stored_undoes_its_own_writes_only(bench: Bench) -> None:
    saga = make_saga()

    @saga.step(transactional=True, bulk=True, retry=ONCE, nothing_to_undo="its writes are one")
    async def book(cmds: Sequence[Command[Note]], tx: Tx) -> list[str]:
        await write(bench, cmds, tx)
        return ["\x00" if cmd.input.text == "4" else "ok" for cmd in cmds]

    ended = await run(bench, saga, 10)
    assert ended.pop("4") == "FAILED"
    assert set(ended.values()) == {"COMPLETED"}
    assert await entries(bench) == every(10, 4)


async def test_compensations_in_bulk(bench: Bench) -> None:
    saga = make_saga()

    @saga.step(transactional=True, bulk=True)
    async def book(cmds: Sequence[Command[Note]], tx: Tx) -> list[Booked]:
        await write(bench, cmds, tx)
        return [Booked(text=cmd.input.text) for cmd in cmds]

    @book.compensation(transactional=True, bulk=True)
    async def unbook(cmds: Sequence[Command[Note]], tx: Tx) -> list[None]:
        statement = sql.SQL("delete from {}.entry where note = any(%s)")
        texts = [cmd.result(book).text for cmd in cmds]
        await tx.execute(statement.format(sql.Identifier(bench.schema.name)), (texts,))
        return [None] * len(cmds)

    @saga.step(nothing_to_undo="it is refused")
    async def refuse(cmd: Command[Note]) -> None:
        if int(cmd.input.text) % 2:
            raise Rejected("odd")

    ended = await run(bench, saga, 20)
    assert {text for text, status in ended.items() if status == "FAILED"} == set(every(20)[1::2])
    assert await entries(bench) == every(20)[::2]


async def test_a_commit_whose_answer_is_lost_is_not_made_twice(
    bench: Bench, proxy: CommitDroppingProxy
) -> None:
    saga = make_booking(bench)
    await bench.register(saga)
    await bench.start_many(saga, 60)
    proxy.drop_after_commit(2)
    async with bench.worker(saga, dsn=proxy.before(bench.schema.dsn), listen_dsn=bench.schema.dsn):
        await bench.all_settled()
    assert proxy.struck
    assert await entries(bench) == every(60)
    assert await bench.violations() == []


async def test_bulk_and_single_steps_share_a_transaction(bench: Bench) -> None:
    bulk, single = make_booking(bench), make_saga()

    @single.step(transactional=True, pivot=True, timeout=5)
    async def book(cmd: Command[Note], tx: Tx) -> None:
        await write(bench, [cmd], tx)

    await bench.register(bulk, single)
    await bench.start_many(bulk, 20)
    await bench.start_many(single, 20)
    async with bench.worker(App([bulk, single]), transactions=1):
        await bench.all_settled()
    sizes = dict(await bench.rows("select least(size, 2), count(*) from entry group by 1"))
    assert sizes == {1: 20, 2: 20}
    ((shared,),) = await bench.rows(
        "select count(*) from (select xmin from entry group by xmin::text, xmin "
        "having min(size) < max(size)) as mixed"
    )
    assert shared > 0
    assert await bench.violations() == []

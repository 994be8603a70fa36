"""Pauses and other acts, with real workers at work."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from outbox import Command, Rejected, Saga
from outbox.operator import Operator
from outbox.store.connect import Connection, connect
from tests.engine.bench import Bench, Note, make_saga, until


@pytest.fixture
async def connection(bench: Bench) -> AsyncIterator[Connection]:
    async with await connect(bench.schema.dsn) as opened:
        yield opened


@pytest.fixture
def operator(bench: Bench) -> Operator:
    return Operator(bench.schema.name)


class Busy:
    """A saga of many short steps, and when the last of them began."""

    def __init__(self) -> None:
        self.saga: Saga[Note] = make_saga()
        self.begun = 0
        for number in range(12):
            self.saga.step(name=f"step_{number}", nothing_to_undo="it reads")(self.work)

    async def work(self, cmd: Command[Note]) -> None:
        self.begun += 1
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("everything", [False, True], ids=["a type", "everything"])
async def test_a_pause_takes_effect_within_a_second_under_load_and_resume_goes_on(
    bench: Bench, connection: Connection, operator: Operator, everything: bool
) -> None:
    busy, other = Busy(), Busy()
    type_ = None if everything else busy.saga.type
    async with bench.worker(busy.saga), bench.worker(other.saga):
        await bench.start_many(busy.saga, 60)
        await bench.start_many(other.saga, 60)
        await until(lambda: busy.begun > 50)
        in_flight = await operator.pause(connection, "the provider is down", type_)
        await asyncio.sleep(1)
        begun, others = busy.begun, other.begun
        assert 0 < begun < 60 * 12, "it was paused in the middle"
        assert 0 <= in_flight <= 120
        held = "select 1 from outbox where worker is not null and type = %s"
        assert await bench.rows(held, busy.saga.type) == [], "what was in flight has finished"
        await asyncio.sleep(1)
        assert busy.begun == begun, "nothing began"
        if everything:
            assert other.begun == others
        else:
            await until(lambda: other.begun == 60 * 12)
        await operator.resume(connection, "it is back", type_)
        await until(lambda: busy.begun == other.begun == 60 * 12)
        await bench.all_settled()
    assert await bench.violations() == []


async def test_what_an_operator_may_do_is_done_from_python(
    bench: Bench, connection: Connection, operator: Operator
) -> None:
    saga = make_saga()

    @saga.step(nothing_to_undo="it reads")
    async def look(cmd: Command[Note]) -> int:
        return len(cmd.input.text)

    @saga.step(pivot=True)
    async def decide(cmd: Command[Note]) -> None:
        return None

    @saga.step()
    async def tell(cmd: Command[Note]) -> str:
        if cmd.input.text == "bad":
            raise Rejected("bad text")
        return f"{cmd.input.text} {cmd.result(look)}"

    async with bench.worker(saga):
        ids = [(await bench.settled(await bench.start(saga, text="bad"))).id for _ in range(4)]
        first, second, third, fourth = ids
        found = await operator.act_many(connection, "retry", "why", error="Rejected", dry_run=True)
        assert {row.saga_id for row in found} == set(ids)
        assert await operator.skip(connection, first, "told by phone", "told") == "COMPLETED"
        assert await operator.amend_input(connection, second, "a typo", {"text": "good"}) == (
            "EXECUTING"
        )
        assert (await bench.settled(second)).output == "good 3"
        again = await operator.rerun(connection, second, "once more")
        assert (await bench.settled(again)).output == "good 4"
        assert await operator.pause_saga(connection, third, "wait") == "SUSPENDED"
        await operator.amend_input(connection, third, "a typo", {"text": "fine"})
        await operator.amend_result(connection, third, "counted anew", "look", 40)
        assert await operator.resume_saga(connection, third, "go on") == "EXECUTING"
        assert (await bench.settled(third)).output == "fine 40"
        explained = await operator.explain_abort(connection, fourth)
        assert [(row.what, row.step) for row in explained] == [
            ("stays", "decide"),
            ("stays", "look"),
        ]
        assert [row.saga_id for row in await operator.version_in_use(connection, saga.type, 1)] == [
            fourth
        ]
        assert await operator.cancel(connection, fourth, "not wanted", force=True) == "FAILED"
        past = await operator.past_resolutions(connection, words="phone")
        assert [(row.saga_id, row.act, row.led_to) for row in past] == [
            (first, "skip", "tell: done")
        ]
    assert await bench.violations() == []

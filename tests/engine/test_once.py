"""What a handler did once is not done again by the attempts after it."""

import asyncio
import threading
from uuid import UUID

import pytest
from pydantic import BaseModel

from outbox import Command, Retry
from outbox.store.connect import Connection
from tests.engine.bench import Bench, Note, make_saga, until

QUICK = Retry(attempts=5, base=0.01, cap=0.02)


class Receipt(BaseModel):
    """What a sub-effect comes to."""

    number: int


async def test_a_later_attempt_does_not_repeat_what_an_earlier_one_did_once(bench: Bench) -> None:
    saga = make_saga()
    done: list[str] = []

    @saga.step(retry=QUICK, nothing_to_undo="it counts")
    async def pay(cmd: Command[Note]) -> int:
        async def charge() -> Receipt:
            done.append("charge")
            return Receipt(number=len(done))

        def book() -> dict[str, int]:
            done.append("book")
            return {"line": len(done)}

        receipt = await cmd.once("charge", charge, result=Receipt)
        if cmd.attempt == 1:
            raise ConnectionError("lost between the two")
        booked = await cmd.once("book", book)
        if cmd.attempt == 2:
            raise ConnectionError("lost after both")
        return receipt.number + int(booked["line"])

    async with bench.worker(saga):
        saga_id = await bench.start(saga)
        found = await bench.settled(saga_id)
    assert (found.status, found.output) == ("COMPLETED", 3)
    assert done == ["charge", "book"]
    assert await bench.violations() == []


async def test_each_command_remembers_for_itself(bench: Bench) -> None:
    saga = make_saga()
    done: list[str] = []

    @saga.step()
    async def first(cmd: Command[Note]) -> None:
        await cmd.once("same", lambda: done.append(cmd.step))

    @first.compensation()
    async def undo_first(cmd: Command[Note]) -> None:
        await cmd.once("same", lambda: done.append(f"undo of {cmd.step}"))

    @saga.step(retry=Retry(attempts=1), nothing_to_undo="it fails")
    async def second(cmd: Command[Note]) -> None:
        await cmd.once("same", lambda: done.append(cmd.step))
        raise ValueError("enough")

    async with bench.worker(saga):
        saga_id = await bench.start(saga)
        assert (await bench.settled(saga_id)).status == "FAILED"
    assert done == ["first", "second", "undo of first"]


async def test_a_plain_function_remembers_too(bench: Bench) -> None:
    saga = make_saga()
    done: list[str] = []

    @saga.step(retry=QUICK, nothing_to_undo="it counts")
    def pay(cmd: Command[Note]) -> str:
        def charge() -> str:
            done.append(threading.current_thread().name)
            return "charged"

        found = cmd.once_now("charge", charge, result=str)
        if cmd.attempt == 1:
            raise ConnectionError("lost after it")
        return found

    async with bench.worker(saga):
        saga_id = await bench.start(saga)
        assert (await bench.settled(saga_id)).output == "charged"
    assert len(done) == 1
    assert done[0].startswith("step"), "it ran in the handler's own thread"


async def test_the_loop_is_not_to_be_blocked(bench: Bench) -> None:
    saga = make_saga()

    @saga.step(retry=Retry(attempts=1), nothing_to_undo="it does nothing")
    async def pay(cmd: Command[Note]) -> None:
        cmd.once_now("charge", lambda: 1)

    async with bench.worker(saga):
        saga_id = await bench.start(saga)
        found = await bench.settled(saga_id)
    assert "await cmd.once" in (found.error or {})["message"]


async def test_a_transactional_step_is_refused(bench: Bench) -> None:
    saga = make_saga()

    @saga.step(transactional=True, retry=Retry(attempts=1), nothing_to_undo="it does nothing")
    async def pay(cmd: Command[Note], tx: Connection) -> None:
        await cmd.once("charge", lambda: 1)

    async with bench.worker(saga):
        saga_id = await bench.start(saga)
        found = await bench.settled(saga_id)
    assert 'step "pay" is transactional' in (found.error or {})["message"]


async def test_what_has_no_json_form_or_too_much_of_it_is_refused(bench: Bench) -> None:
    saga = make_saga()
    values = {"object": object(), "nul": "\x00", "large": "x" * 3000}

    @saga.step(retry=Retry(attempts=1), nothing_to_undo="it does nothing")
    async def pay(cmd: Command[Note]) -> None:
        await cmd.once(cmd.input.text, lambda: values[cmd.input.text])

    await bench.rows("update setting set max_result_bytes = 2000")
    errors = {}
    async with bench.worker(saga):
        for name in values:
            found = await bench.settled(await bench.start(saga, name))
            errors[name] = (found.error or {})["message"]
    assert "no JSON form" in errors["object"]
    assert "NUL" in errors["nul"]
    assert "3002 bytes, the limit is 2000" in errors["large"]
    assert await bench.rows("select 1 from once_result") == []


async def test_a_worker_that_was_taken_for_dead_neither_recalls_nor_remembers(
    bench: Bench,
) -> None:
    saga = make_saga()
    zombie_goes_on = asyncio.Event()
    effects: list[tuple[int, str]] = []
    errors: list[str] = []

    @saga.step(timeout=60, retry=QUICK, nothing_to_undo="it counts")
    async def pay(cmd: Command[Note]) -> str:
        async def slow() -> str:
            effects.append((cmd.attempt, "slow"))
            if cmd.attempt == 1:
                await zombie_goes_on.wait()
            return f"by attempt {cmd.attempt}"

        try:
            found = str(await cmd.once("slow", slow))
            await cmd.once("second", lambda: effects.append((cmd.attempt, "second")))
        except Exception as error:
            errors.append(f"{cmd.attempt} {type(error).__name__}: {error}")
            raise
        return found

    async with bench.worker(saga) as running:
        saga_id = await bench.start(saga)
        await until(lambda: bool(effects))
        await _lose(bench, saga_id)
        found = await bench.settled(saga_id)
        zombie_goes_on.set()
        await until(lambda: bool(errors))
        await until(lambda: bool(running.events("outcome_refused")))
    assert found.output == "by attempt 2"
    assert effects == [(1, "slow"), (2, "slow"), (2, "second")]
    assert errors[0].startswith("1 WorkerLostError")
    assert await bench.rows("select result #>> '{}' from once_result where name = 'slow'") == [
        ("by attempt 2",)
    ]
    assert await bench.violations() == []


async def _lose(bench: Bench, saga_id: UUID) -> None:
    """Takes the command from its worker, as if the attempt had overrun its deadline."""
    await bench.rows(
        "update outbox set deadline = clock() - interval '1 minute' where id = %s", saga_id
    )


async def test_once_without_an_engine_calls_the_function() -> None:
    cmd = Command(UUID(int=1), "t", 1, "k", "s", "action", Note(), 1)
    assert await cmd.once("a", lambda: 1) == 1
    assert cmd.once_now("a", lambda: {"x": 1}) == {"x": 1}
    with pytest.raises(ValueError, match="200 characters"):
        await cmd.once("", lambda: 1)

"""One attempt: what handlers give and raise, in coroutines and in threads, and what comes of it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from outbox import App, AppContext, Command, Rejected, Retry, RetryAfter, Saga
from outbox.worker import LifespanError
from tests.engine.bench import Bench, Note, make_saga, until

ONCE = Retry(attempts=1)
AT_ONCE = Retry(attempts=2, base=0, cap=0)


class Model(BaseModel):
    """A result that is a model."""

    amount: int


@dataclass
class Point:
    """A result that is a dataclass."""

    x: int
    tags: list[str]


def make_typed(seen: list[Any]) -> Saga[Note]:
    """Steps that give results of every kind, and a last one that looks at them all."""
    saga = make_saga()

    @saga.step(nothing_to_undo="it only counts")
    async def model(cmd: Command[Note]) -> Model:
        return Model(amount=42)

    @saga.step(nothing_to_undo="it only counts")
    def point(cmd: Command[Note]) -> Point:
        return Point(1, ["a", "ü", "\U0001f600"])

    @saga.step(nothing_to_undo="it only counts")
    async def models(cmd: Command[Note]) -> list[Model]:
        return [Model(amount=1), Model(amount=2)]

    @saga.step(nothing_to_undo="it only counts")
    def nothing(cmd: Command[Note]) -> None: ...

    @saga.step(nothing_to_undo="it only counts")
    async def untyped(cmd: Command[Note]):  # type: ignore[no-untyped-def] # as users do
        return {"a": [1, None, "b"]}

    @saga.step(nothing_to_undo="it only looks")
    async def look(cmd: Command[Note]) -> str:
        if cmd.attempt == 1:
            raise RetryAfter(0.0 if cmd.input.text != "later" else 3600.0)
        seen.extend(cmd.result(step) for step in (model, point, models, nothing, untyped))
        return f"seen, {cmd.input.text}"

    return saga


SEEN = [Model(amount=42), Point(1, ["a", "ü", "\U0001f600"]), [Model(amount=1), Model(amount=2)],
        None, {"a": [1, None, "b"]}]  # fmt: skip


async def test_results_reach_later_steps_as_what_they_were(bench: Bench) -> None:
    seen: list[Any] = []
    saga = make_typed(seen)
    async with bench.worker(saga):
        status = await bench.settled(await bench.start(saga, "hello"))
    assert (status.status, status.output) == ("COMPLETED", "seen, hello")
    assert seen == SEEN
    assert await bench.violations() == []


async def test_results_reach_later_steps_in_another_worker(bench: Bench) -> None:
    seen: list[Any] = []
    saga = make_typed(seen)
    async with bench.worker(saga):
        saga_id = await bench.start(saga, "later")

        async def waits() -> bool:
            return ("action", "look", "retry") in await bench.history(saga_id)

        await until(waits)
    ((wait,),) = await bench.rows("select due_at - moved_at from outbox where id = %s", saga_id)
    assert wait.total_seconds() == pytest.approx(3600, abs=5)
    await bench.rows("update outbox set due_at = clock() where id = %s", saga_id)
    async with bench.worker(saga):
        assert (await bench.settled(saga_id)).output == "seen, later"
    assert seen == SEEN


def make_failing(value: Any, annotation: Any = Any) -> Saga[Note]:
    """A step whose result is this, after one that can be undone."""
    saga = make_saga()
    first = saga.step(name="first")(_nothing)
    first.compensation()(_nothing)

    async def give(cmd: Command[Note]) -> Any:
        if isinstance(value, BaseException):
            raise value
        return value

    give.__annotations__["return"] = annotation
    saga.step(retry=AT_ONCE, nothing_to_undo="it only gives")(give)
    return saga


async def _nothing(cmd: Command[Note]) -> None: ...


class Speechless(Exception):
    """An exception that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("value", "annotation", "type_", "says"),
    [
        ("a\x00b", str, "ResultNotStorable", "NUL"),
        ("\ud800", str, "ResultNotStorable", "surrogate"),
        ("x" * 300_000, str, "ResultNotStorable", "the limit is 262144"),
        ("text", int, "ResultNotStorable", "not return what its annotation says: Expected `int` ["),
        (object(), Any, "ResultNotStorable", "the result has no JSON form: Unable"),
        (2**64 + 1, int, "ResultNotStorable", "64-bit"),
        ({"card": "9" * 30, "n": [2**70]}, Any, "ResultNotStorable", "64-bit"),
        ({1: {2}}, Model, "ResultNotStorable", "Model"),
        (ValueError("a\x00b\ud800c"), Any, "ValueError", "a\ufffdb?c"),
        (Speechless(), Any, "Speechless", "Speechless"),
        (SystemExit(3), Any, "HandlerExitedError", "sys.exit(3)"),
    ],
)
async def test_what_cannot_be_kept_is_a_failed_attempt(
    bench: Bench, value: Any, annotation: Any, type_: str, says: str
) -> None:
    saga = make_failing(value, annotation)
    async with bench.worker(saga):
        saga_id = await bench.start(saga)
        await bench.settled(saga_id)
        # The worker is none the worse for it.
        assert (await bench.settled(await bench.start(saga))).status == "FAILED"
    errors = await bench.errors(saga_id)
    assert [error["type"] for error in errors] == [type_, type_]
    assert says in errors[0]["message"]
    assert await bench.history(saga_id) == [
        ("action", "first", "done"),
        ("action", "give", "retry"),
        ("action", "give", "in_doubt"),
        ("compensation", "first", "done"),
    ]
    assert await bench.violations() == []


async def test_what_a_handler_returns_by_mistake_is_explained(bench: Bench) -> None:
    saga = make_saga()

    def mistaken(cmd: Command[Note]) -> Any:
        return Rejected("no") if cmd.input.text == "refuse" else asyncio.sleep(0)

    saga.step(retry=Retry(attempts=1), nothing_to_undo="it only gives")(mistaken)
    async with bench.worker(saga):
        said = []
        for text in ("refuse", ""):
            status = await bench.settled(await bench.start(saga, text))
            said.append((status.error["type"], status.error["message"]))
    assert said == [
        (
            "ResultNotStorable",
            "the handler returned Rejected, which is to be raised: raise Rejected(…)",
        ),
        (
            "ResultNotStorable",
            "the handler is a plain function, and returned a coroutine: make it `async def`, "
            "and await what it calls",
        ),
    ]


async def test_a_coroutine_that_blocks_the_worker_is_told_of(bench: Bench) -> None:
    saga = make_saga()

    @saga.step(nothing_to_undo="it only takes time")
    async def block(cmd: Command[Note]) -> None:
        time.sleep(2)  # noqa: ASYNC251 - the mistake

    async with bench.worker(saga, lease=4.0) as running:
        await bench.settled(await bench.start(saga))
        await until(lambda: bool(running.events("loop_blocked")))
    (told,) = running.events("loop_blocked")
    assert 1 < told["seconds"] < 10
    assert "make it a plain function" in told["message"]


async def test_the_limit_of_a_result_is_a_setting_of_the_installation(bench: Bench) -> None:
    saga = make_failing("x" * 100, str)
    await bench.rows("update setting set max_result_bytes = 50")
    async with bench.worker(saga):
        saga_id = await bench.start(saga)
        await bench.settled(saga_id)
    assert "102 bytes, the limit is 50" in (await bench.errors(saga_id))[0]["message"]


@pytest.mark.parametrize("seconds", [float("inf"), 1e300])
async def test_a_wait_without_end_is_a_long_wait(bench: Bench, seconds: float) -> None:
    saga = make_failing(RetryAfter(seconds))
    async with bench.worker(saga) as running:
        saga_id = await bench.start(saga)
        await until(lambda: len(running.events("transition")) == 2)
    ((far,),) = await bench.rows("select due_at > now() + '300 days' from outbox")
    assert far
    assert (await bench.errors(saga_id))[0]["type"] == "RetryAfter"


async def test_rejected_is_not_tried_again(bench: Bench) -> None:
    saga = make_failing(Rejected("no", code="closed"))
    async with bench.worker(saga):
        saga_id = await bench.start(saga)
        assert (await bench.settled(saga_id)).error == {
            "type": "Rejected", "message": "no", "code": "closed",
        }  # fmt: skip
    assert (await bench.history(saga_id))[1] == ("action", "give", "rejected")


async def test_an_input_that_no_longer_fits_is_a_failed_attempt(bench: Bench) -> None:
    saga = make_failing(None)
    await bench.register(saga)
    saga_id = await bench.start(saga)
    await bench.rows("update instance set input = '{\"text\": [1]}' where id = %s", saga_id)
    async with bench.worker(saga):
        await until(lambda: _has_errors(bench, saga_id))
    errors = await bench.errors(saga_id)
    assert errors[0]["type"] == "ValidationError"
    assert "text" in errors[0]["message"]


async def _has_errors(bench: Bench, saga_id: Any) -> bool:
    return bool(await bench.errors(saga_id))


async def test_resources_are_set_up_once_and_taken_down(bench: Bench) -> None:
    saga, life = make_saga(), list[str]()

    class Counter:
        count = 0

    @contextlib.asynccontextmanager
    async def lifespan(context: AppContext) -> AsyncIterator[list[object]]:
        assert (context.dsn, context.schema) == (bench.schema.dsn, bench.schema.name)
        life.append("up")
        yield [Counter()]
        life.append("down")

    @saga.step(nothing_to_undo="it only counts")
    async def count(cmd: Command[Note]) -> int:
        counter = cmd.resource(Counter)
        counter.count += 1
        return counter.count

    async with bench.worker(App([saga], lifespan)):
        counts = [(await bench.settled(s)).output for s in await bench.start_many(saga, 3)]
        assert life == ["up"]
    assert sorted(counts) == [1, 2, 3]
    assert life == ["up", "down"]


async def test_a_lifespan_that_fails_says_whose_it_is(bench: Bench) -> None:
    saga = make_failing(None)

    @contextlib.asynccontextmanager
    async def lifespan(context: AppContext) -> AsyncIterator[list[object]]:
        raise ConnectionRefusedError("no provider at 127.0.0.1:9")
        yield []

    with pytest.raises(LifespanError, match=f"{saga.type}.*no provider at"):
        async with bench.worker(App([saga], lifespan)):
            raise AssertionError("it became ready")
    assert await bench.rows("select 1 from worker") == []

"""What a saga can say beside one step after the other, each run by a real worker."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from outbox import App, Command, Happened, NotDone, Rejected, Retry, Saga, Unknown
from outbox.engine.clock import clock
from tests.engine.bench import Bench, Note, make_saga, until

QUICK = Retry(attempts=3, base=0.01, cap=0.02)


class Line(BaseModel):
    """A line of an order."""

    sku: str
    count: int


class Cart(BaseModel):
    """An input with several lines."""

    lines: list[Line]


class Log:
    """What handlers did, in order."""

    def __init__(self) -> None:
        self.entries: list[str] = []

    def add_step(
        self,
        saga: Saga[Note],
        name: str,
        *,
        act: Callable[[Command[Note]], Any] | None = None,
        **more: Any,
    ) -> Any:
        """Declares a step that logs its action and its compensation."""

        async def handler(cmd: Command[Note]) -> str:
            self.entries.append(name)
            if act is not None:
                found = act(cmd)
                if asyncio.iscoroutine(found):
                    await found
            return name

        async def undo(cmd: Command[Note]) -> None:
            self.entries.append(f"undo {name}")

        step = saga.step(name=name, retry=more.pop("retry", QUICK), **more)(handler)
        step.compensation(retry=QUICK)(undo)
        return step


def refuse(cmd: Command[Note]) -> None:
    raise Rejected("no")


@pytest.fixture
def log() -> Log:
    return Log()


async def test_branches_run_side_by_side_and_are_joined(bench: Bench, log: Log) -> None:
    saga = make_saga()
    both = asyncio.Barrier(2)

    async def meet(cmd: Command[Note]) -> None:
        async with asyncio.timeout(10):
            await both.wait()

    log.add_step(saga, "first")
    with saga.parallel("side_by_side", state="TWO_DONE") as group:
        log.add_step(saga, "left", act=lambda cmd: meet(cmd))
        with group.branch():
            log.add_step(saga, "right", act=lambda cmd: meet(cmd))
            log.add_step(saga, "right_too")
    log.add_step(saga, "last")
    async with bench.worker(saga):
        status = await bench.settled(await bench.start(saga))
    assert status.status == "COMPLETED", status.error
    assert log.entries[0] == "first"
    assert sorted(log.entries[1:3]) == ["left", "right"]
    assert log.entries[3:] == ["right_too", "last"]
    history = await bench.history(status.id)
    assert history[1] == ("action", "side_by_side", "waiting")
    assert history[-2:] == [("action", "side_by_side", "joined"), ("action", "last", "done")]
    assert await bench.violations() == []


async def test_a_failing_branch_lets_the_others_end_and_all_is_undone_in_reverse(
    bench: Bench, log: Log
) -> None:
    saga = make_saga()
    begun, failed = asyncio.Event(), asyncio.Event()

    async def slow(cmd: Command[Note]) -> None:
        begun.set()
        await failed.wait()
        await asyncio.sleep(0.1)

    async def fail(cmd: Command[Note]) -> None:
        await begun.wait()
        asyncio.get_running_loop().call_later(0.1, failed.set)
        raise Rejected("no")

    log.add_step(saga, "first")
    with saga.parallel("group") as group:
        with group.branch():
            log.add_step(saga, "slow", act=lambda cmd: slow(cmd))
            log.add_step(saga, "never")
        log.add_step(saga, "failing", act=lambda cmd: fail(cmd))
        log.add_step(saga, "quick")
    async with bench.worker(saga):
        status = await bench.settled(await bench.start(saga))
    assert (status.status, status.error["message"]) == ("FAILED", "no")
    assert log.entries[-3:] == ["undo quick", "undo slow", "undo first"]
    assert "never" not in log.entries
    assert await bench.violations() == []


async def test_a_branch_that_waits_for_its_next_attempt_is_not_tried_again_once_another_fails(
    bench: Bench, log: Log
) -> None:
    saga = make_saga()
    tries = 0

    def flaky(cmd: Command[Note]) -> None:
        nonlocal tries
        tries += 1
        raise RuntimeError("later perhaps")

    async def fail_late(cmd: Command[Note]) -> None:
        await until(lambda: tries > 0)
        await asyncio.sleep(0.1)
        raise Rejected("no")

    with saga.parallel("group"):
        log.add_step(
            saga, "flaky", act=flaky, retry=Retry(attempts=9, base=60, cap=60), timeout=0.1
        )
        log.add_step(saga, "failing", act=lambda cmd: fail_late(cmd))
    async with bench.worker(saga):
        status = await bench.settled(await bench.start(saga))
    assert status.status == "FAILED"
    assert tries == 1
    assert log.entries[-1] == "undo flaky", "its effect was in doubt"
    assert await bench.violations() == []


async def test_groups_stand_within_groups(bench: Bench, log: Log) -> None:
    saga = make_saga()
    with saga.parallel("outer") as outer:
        log.add_step(saga, "alone")
        with outer.branch():
            log.add_step(saga, "before")
            with saga.parallel("inner"):
                log.add_step(saga, "inner_left")
                log.add_step(saga, "inner_right")
            log.add_step(saga, "after")
    log.add_step(saga, "end", act=refuse)
    async with bench.worker(saga):
        status = await bench.settled(await bench.start(saga))
    assert status.status == "FAILED"
    done = [entry for entry in log.entries if not entry.startswith("undo")]
    assert done.index("after") > max(done.index("inner_left"), done.index("inner_right"))
    assert len([entry for entry in log.entries if entry.startswith("undo")]) == 5
    assert await bench.violations() == []


async def test_a_step_whose_condition_does_not_hold_is_skipped_and_never_undone(
    bench: Bench, log: Log
) -> None:
    saga = make_saga()
    first = log.add_step(saga, "first")
    log.add_step(saga, "skipped", when=lambda cmd: cmd.result(first) != "first")
    log.add_step(saga, "taken", when=lambda cmd: cmd.input.text == "x")
    log.add_step(saga, "end", act=refuse)
    async with bench.worker(saga):
        status = await bench.settled(await bench.start(saga, "x"))
    assert log.entries == ["first", "taken", "end", "undo taken", "undo first"]
    assert ("action", "skipped", "skipped") in await bench.history(status.id)
    assert await bench.violations() == []


async def test_a_condition_that_breaks_is_a_failed_attempt(bench: Bench, log: Log) -> None:
    saga = make_saga()
    log.add_step(saga, "first")
    log.add_step(saga, "second", when=lambda cmd: 1 / 0)
    async with bench.worker(saga):
        status = await bench.settled(await bench.start(saga))
    assert (status.status, status.error["type"]) == ("FAILED", "ZeroDivisionError")
    assert log.entries == ["first", "undo first"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a", ["a1", "a2", "end"]), ("b", ["b", "end"]), ("?", ["end"])],
)
async def test_a_choice_takes_the_first_alternative_that_holds(
    bench: Bench, log: Log, text: str, expected: list[str]
) -> None:
    saga = make_saga()
    with saga.choice("which") as which:
        with which.when(lambda cmd: cmd.input.text == "a"):
            log.add_step(saga, "a1")
            log.add_step(saga, "a2")
        with which.when(lambda cmd: cmd.input.text in "ab"):
            log.add_step(saga, "b")
    log.add_step(saga, "end")
    async with bench.worker(saga):
        status = await bench.settled(await bench.start(saga, text))
    assert (status.status, log.entries) == ("COMPLETED", expected)
    assert await bench.violations() == []


async def test_otherwise_is_taken_when_nothing_holds(bench: Bench, log: Log) -> None:
    saga = make_saga()
    with saga.choice("which") as which:
        with which.when(lambda cmd: False):
            log.add_step(saga, "no")
        with which.otherwise():
            log.add_step(saga, "yes")
    async with bench.worker(saga):
        status = await bench.settled(await bench.start(saga))
    assert (status.status, log.entries) == ("COMPLETED", ["yes"])


class Shop:
    """A saga that reserves each line of a cart."""

    def __init__(self, *, concurrency: int = 2, fails_at: str | None = None) -> None:
        self.saga = Saga(make_saga().type, input=Cart)
        self.running = self.most = 0
        self.reserved: list[str] = []
        self.released: list[tuple[str, str | None]] = []
        self.keys: set[str] = set()
        self.seen: list[Any] = []

        @self.saga.step(each=lambda cmd: cmd.input.lines, concurrency=concurrency, retry=QUICK)
        async def reserve(cmd: Command[Cart], line: Line) -> str:
            assert isinstance(line, Line)
            self.keys.add(cmd.idempotency_key)
            self.running += 1
            self.most = max(self.most, self.running)
            await asyncio.sleep(0.02)
            self.running -= 1
            if line.sku == fails_at:
                raise Rejected(f"no {line.sku} left")
            self.reserved.append(line.sku)
            return f"reserved {line.sku}"

        @reserve.compensation(retry=QUICK)
        async def release(cmd: Command[Cart], line: Line) -> None:
            self.released.append((line.sku, cmd.find_result(reserve)))

        @self.saga.step(nothing_to_undo="it looks")
        async def look(cmd: Command[Cart]) -> None:
            self.seen.extend(cmd.results(reserve))

    async def order(self, bench: Bench, *skus: str) -> Any:
        cart = Cart(lines=[Line(sku=sku, count=1) for sku in skus])
        async with bench.connection() as connection:
            return (await bench.client.start(connection, self.saga, cart)).id


async def test_a_step_runs_for_each_element_with_bounded_concurrency(bench: Bench) -> None:
    shop = Shop(concurrency=3)
    skus = [f"sku{n}" for n in range(8)]
    async with bench.worker(shop.saga):
        status = await bench.settled(await shop.order(bench, *skus))
    assert status.status == "COMPLETED", status.error
    assert shop.seen == [f"reserved {sku}" for sku in skus]
    assert sorted(shop.reserved) == skus
    assert 2 <= shop.most <= 3
    assert len(shop.keys) == 8
    assert await bench.violations() == []


async def test_no_elements_are_done_at_once(bench: Bench) -> None:
    shop = Shop()
    async with bench.worker(shop.saga):
        status = await bench.settled(await shop.order(bench))
    assert (status.status, shop.seen) == ("COMPLETED", [])
    assert await bench.violations() == []


async def test_elements_are_undone_one_by_one(bench: Bench) -> None:
    shop = Shop(concurrency=1, fails_at="c")
    async with bench.worker(shop.saga):
        status = await bench.settled(await shop.order(bench, "a", "b", "c", "d"))
    assert (status.status, status.error["message"]) == ("FAILED", "no c left")
    assert shop.reserved == ["a", "b"]
    assert [sku for sku, _ in shop.released] == ["b", "a"]
    assert await bench.violations() == []


async def test_a_sub_saga_is_waited_for_and_its_output_is_the_result(
    bench: Bench, log: Log
) -> None:
    inner, outer = make_saga(), make_saga()
    log.add_step(inner, "inner")
    sub = outer.run("sub", inner, input=lambda cmd: Note(text=cmd.input.text), result=str)
    seen = []
    log.add_step(outer, "end", act=lambda cmd: seen.append(cmd.result(sub)))
    async with bench.worker(App([inner, outer])):
        status = await bench.settled(await bench.start(outer, "hello"))
    assert (status.status, seen, log.entries) == ("COMPLETED", ["inner"], ["inner", "end"])
    assert await bench.rows("select i.input from instance i join child c on c.saga_id = i.id") == [
        ({"text": "hello"},)
    ]
    assert await bench.violations() == []


async def test_a_sub_saga_that_fails_makes_its_parent_fail(bench: Bench, log: Log) -> None:
    inner, outer = make_saga(), make_saga()
    log.add_step(inner, "inner", act=refuse)
    log.add_step(outer, "first")
    outer.run("sub", inner, input=lambda cmd: cmd.input)
    async with bench.worker(App([inner, outer])):
        status = await bench.settled(await bench.start(outer))
    assert (status.status, status.error["type"]) == ("FAILED", "SubSagaFailed")
    assert log.entries == ["first", "inner", "undo first"]
    assert await bench.violations() == []


async def test_undoing_a_sub_saga_that_has_completed_undoes_it(bench: Bench, log: Log) -> None:
    inner, outer = make_saga(), make_saga()
    log.add_step(inner, "one")
    log.add_step(inner, "two", pivot=True)
    log.add_step(outer, "first")
    outer.run("sub", inner, input=lambda cmd: cmd.input)
    log.add_step(outer, "end", act=refuse)
    async with bench.worker(App([inner, outer])):
        status = await bench.settled(await bench.start(outer))
    assert status.status == "FAILED"
    assert log.entries == ["first", "one", "two", "end", "undo two", "undo one", "undo first"]
    states = await bench.rows("select status, error ->> 'type' from instance order by id")
    assert states == [("FAILED", "Rejected"), ("FAILED", "ParentUndone")]
    assert await bench.violations() == []


async def test_a_sub_saga_of_a_branch_is_undone_too(bench: Bench, log: Log) -> None:
    inner, outer = make_saga(), make_saga()
    log.add_step(inner, "inner")
    with outer.parallel("group") as group:
        with group.branch():
            outer.run("sub", inner, input=lambda cmd: cmd.input)
            log.add_step(outer, "after_sub")
        log.add_step(outer, "beside")
    log.add_step(outer, "end", act=refuse)
    async with bench.worker(App([inner, outer])):
        status = await bench.settled(await bench.start(outer))
    assert status.status == "FAILED"
    assert log.entries.index("undo after_sub") < log.entries.index("undo inner")
    states = await bench.rows("select status from instance")
    assert states == [("FAILED",), ("FAILED",)]
    assert await bench.violations() == []


async def test_a_sub_saga_that_failed_is_started_anew_by_a_retry(bench: Bench, log: Log) -> None:
    inner, outer = make_saga(), make_saga()
    log.add_step(inner, "inner", act=lambda cmd: refuse(cmd) if len(log.entries) == 2 else None)
    log.add_step(outer, "first", pivot=True)
    outer.run("sub", inner, input=lambda cmd: cmd.input)
    async with bench.worker(App([inner, outer])):
        saga = await bench.start(outer)
        assert (await bench.settled(saga)).status == "SUSPENDED"
        await bench.rows("select retry(%s, 'the warehouse is back')", saga)
        assert (await bench.settled(saga)).status == "COMPLETED"
    assert log.entries == ["first", "inner", "inner"]
    assert await bench.rows("select count(*) from child") == [(2,)]
    assert await bench.violations() == []


async def test_a_branch_past_the_pivot_is_suspended_by_itself_and_can_be_retried(
    bench: Bench, log: Log
) -> None:
    saga = make_saga()
    log.add_step(saga, "first", pivot=True)
    with saga.parallel("group"):
        log.add_step(
            saga, "bad", act=lambda cmd: refuse(cmd) if log.entries.count("bad") == 1 else None
        )
        log.add_step(saga, "good")
    async with bench.worker(saga):
        started = await bench.start(saga)

        async def is_suspended() -> bool:
            return await bench.rows("select status from outbox where step in ('good', 'bad')") == [
                ("SUSPENDED",)
            ]

        await until(is_suspended)
        assert "good" in log.entries
        await bench.rows("select retry(%s, 'again')", started)
        assert (await bench.settled(started)).status == "COMPLETED"
    assert await bench.violations() == []


async def test_cancelling_a_parent_undoes_a_sub_saga_that_waits(bench: Bench, log: Log) -> None:
    inner, outer = make_saga(), make_saga()
    log.add_step(inner, "one")
    inner.wait_for("go", timeout=timedelta(hours=1))
    outer.run("sub", inner, input=lambda cmd: cmd.input)
    async with bench.worker(App([inner, outer])):
        saga = await bench.start(outer)
        await until(lambda: _waits(bench, "signal"))
        assert await bench.rows("select cancel(%s, 'changed my mind')", saga) == [("COMPENSATING",)]
        status = await bench.settled(saga)
    assert (status.status, status.state) == ("FAILED", "CANCELLED")
    assert status.error == {"type": "Cancelled", "message": "changed my mind"}
    assert log.entries == ["one", "undo one"]
    assert await bench.violations() == []


async def _waits(bench: Bench, what: str) -> bool:
    return bool(await bench.rows("select 1 from outbox where awaits = %s", what))


class Approval(BaseModel):
    """What a person says."""

    by: str


async def test_a_saga_waits_for_a_signal(bench: Bench, log: Log) -> None:
    saga = make_saga()
    approved = saga.wait_for(
        "approve", result=Approval, timeout=timedelta(hours=1), state="APPROVED"
    )
    seen = []
    log.add_step(saga, "after", act=lambda cmd: seen.append(cmd.result(approved)))
    async with bench.worker(saga), bench.connection() as connection:
        started = await bench.start(saga)
        await until(lambda: _waits(bench, "signal"))
        client = bench.client
        assert await client.signal(connection, started, approved, Approval(by="ann")) == "delivered"
        status = await bench.settled(started)
    assert (status.status, seen) == ("COMPLETED", [Approval(by="ann")])
    assert await bench.violations() == []


async def test_an_early_signal_is_kept_and_a_repeated_one_counts_once(
    bench: Bench, log: Log
) -> None:
    saga = make_saga()
    gate = asyncio.Event()
    log.add_step(saga, "before", act=lambda cmd: gate.wait())
    one = saga.wait_for("tick", name="one", result=int, timeout=timedelta(hours=1))
    two = saga.wait_for("tick", name="two", result=int, timeout=timedelta(hours=1))
    seen = []
    log.add_step(saga, "end", act=lambda cmd: seen.extend([cmd.result(one), cmd.result(two)]))
    async with bench.worker(saga), bench.connection() as connection:
        started = await bench.start(saga)
        tell = bench.client.signal
        assert await tell(connection, started, "tick", 1, key="a") == "kept"
        assert await tell(connection, started, "tick", 1, key="a") == "repeated"
        assert await tell(connection, started, "tick", 2, key="b") == "kept"
        gate.set()
        status = await bench.settled(started)
    assert (status.status, seen) == ("COMPLETED", [1, 2])


@pytest.mark.parametrize(
    ("on_timeout", "expected"),
    [("fail", "FAILED"), ("continue", "COMPLETED"), ("suspend", "SUSPENDED")],
)
async def test_a_signal_that_does_not_come(
    bench: Bench, log: Log, on_timeout: Any, expected: str
) -> None:
    saga = make_saga()
    log.add_step(saga, "first")
    saga.wait_for("go", timeout=timedelta(milliseconds=100), on_timeout=on_timeout)
    async with bench.worker(saga):
        status = await bench.settled(await bench.start(saga))
    assert status.status == expected
    if expected == "FAILED":
        assert status.error["type"] == "SignalTimeout"
        assert log.entries == ["first", "undo first"]
    elif expected == "SUSPENDED":
        assert status.reason is not None
        assert "no signal" in status.reason
    assert await bench.violations() == []


async def test_a_saga_sleeps_while_nobody_holds_it(bench: Bench, log: Log) -> None:
    saga = make_saga()
    times = []
    log.add_step(saga, "before", act=lambda cmd: times.append(clock()))
    saga.sleep("nap", timedelta(seconds=0.5))
    log.add_step(saga, "after", act=lambda cmd: times.append(clock()))
    async with bench.worker(saga):
        started = await bench.start(saga)
        await until(lambda: _waits(bench, "time"))
        assert await bench.rows("select worker from outbox") == [(None,)]
        status = await bench.settled(started)
    assert status.status == "COMPLETED"
    assert 0.5 <= times[1] - times[0] < 5
    assert await bench.violations() == []


class Provider:
    """A step whose first attempt is left in doubt, and what its reconcile answers."""

    def __init__(self, answer: Happened | NotDone | Unknown, **more: Any) -> None:
        self.saga = make_saga()
        self.attempts: list[str] = []
        self.asked: list[tuple[str, str]] = []
        self.undone: list[tuple[object, bool]] = []
        step = self.saga.step(name="charge", retry=QUICK, timeout=0.2, **more)

        async def charge(cmd: Command[Note]) -> str:
            self.attempts.append(cmd.idempotency_key)
            if len(self.attempts) == 1:
                await asyncio.sleep(60)
            return "charged"

        self.step: Any = step(charge)

        @self.step.reconcile(retry=QUICK)
        async def ask(cmd: Command[Note]) -> Happened | NotDone | Unknown:
            self.asked.append((cmd.kind, cmd.idempotency_key))
            return answer

        if not more.get("pivot"):

            @self.step.compensation(retry=QUICK)
            async def undo(cmd: Command[Note]) -> None:
                self.undone.append((cmd.find_result(self.step), cmd.in_doubt))


async def _without_grace(bench: Bench) -> None:
    await bench.rows("update setting set grace = '0.1 seconds'")


async def test_a_reconcile_that_finds_the_effect_makes_the_step_done(bench: Bench) -> None:
    provider = Provider(Happened("found"))
    seen = []

    @provider.saga.step(nothing_to_undo="it looks")
    async def look(cmd: Command[Note]) -> None:
        seen.append(cmd.result(provider.step))

    await _without_grace(bench)
    async with bench.worker(provider.saga):
        status = await bench.settled(await bench.start(provider.saga))
    assert (status.status, seen) == ("COMPLETED", ["found"])
    assert provider.asked == [("reconcile", provider.attempts[0])]
    assert len(provider.attempts) == 1
    assert await bench.history(status.id) == [
        ("action", "charge", "in_doubt"),
        ("reconcile", "charge", "done"),
        ("action", "look", "done"),
    ]
    assert await bench.violations() == []


async def test_a_step_that_has_had_no_effect_is_tried_again_under_its_key(bench: Bench) -> None:
    provider = Provider(NotDone())
    await _without_grace(bench)
    async with bench.worker(provider.saga):
        status = await bench.settled(await bench.start(provider.saga))
    assert status.status == "COMPLETED"
    assert provider.attempts == [provider.attempts[0]] * 2
    assert await bench.violations() == []


@pytest.mark.parametrize("pivot", [False, True])
async def test_what_nobody_knows_suspends(bench: Bench, pivot: bool) -> None:
    provider = Provider(Unknown("the provider is gone"), pivot=pivot)
    await _without_grace(bench)
    async with bench.worker(provider.saga):
        saga = await bench.start(provider.saga)
        status = await bench.settled(saga)
        assert (status.status, len(provider.attempts)) == ("SUSPENDED", 1)
        assert "nobody knows" in (status.reason or "")
        assert await bench.rows("select retry(%s, 'ask again')", saga) == [("EXECUTING",)]
        await until(lambda: len(provider.asked) == 2)
        await bench.settled(saga)
    assert await bench.violations() == []


async def test_what_happened_after_all_is_undone_when_the_saga_was_cancelled(bench: Bench) -> None:
    provider = Provider(Happened("found"))
    await _without_grace(bench)
    async with bench.worker(provider.saga):
        saga = await bench.start(provider.saga)
        await until(lambda: bool(provider.attempts))
        await bench.rows("select cancel(%s, 'no longer wanted')", saga)
        status = await bench.settled(saga)
    assert (status.state, provider.undone) == ("CANCELLED", [("found", False)])
    assert len(provider.asked) == 1
    assert await bench.violations() == []


async def test_a_key_that_is_too_old_is_not_used_again(bench: Bench, log: Log) -> None:
    saga = make_saga()

    async def hang(cmd: Command[Note]) -> None:
        await asyncio.sleep(60)

    log.add_step(
        saga, "old", act=lambda cmd: hang(cmd), timeout=0.2, key_age=timedelta(milliseconds=100)
    )
    async with bench.worker(saga):
        status = await bench.settled(await bench.start(saga))
    assert (status.status, log.entries) == ("SUSPENDED", ["old"])
    assert "its idempotency key is older than" in (status.reason or "")


async def test_a_best_effort_step_does_not_fail_the_saga(bench: Bench, log: Log) -> None:
    saga = make_saga()
    log.add_step(saga, "first")
    log.add_step(saga, "mail", act=refuse, best_effort=True)
    log.add_step(saga, "end")
    async with bench.worker(saga):
        status = await bench.settled(await bench.start(saga))
    assert (status.status, log.entries) == ("COMPLETED", ["first", "mail", "end"])
    assert status.error["type"] == "BestEffort"
    assert "mail" in status.error["message"]
    assert await bench.violations() == []


@pytest.mark.parametrize("past_the_pivot", [False, True])
async def test_a_deadline_undoes_or_suspends(bench: Bench, log: Log, past_the_pivot: bool) -> None:
    saga = make_saga()
    saga.deadline = timedelta(seconds=0.3)
    log.add_step(saga, "first", pivot=past_the_pivot)
    saga.wait_for("never")
    async with bench.worker(saga):
        status = await bench.settled(await bench.start(saga))
    if past_the_pivot:
        assert status.status == "SUSPENDED"
        assert "had to end by" in (status.reason or "")
    else:
        assert (status.status, status.error["type"]) == ("FAILED", "DeadlineExceeded")
        assert log.entries == ["first", "undo first"]
    assert await bench.violations() == []


async def test_cancel_is_refused_past_the_pivot_unless_forced(bench: Bench, log: Log) -> None:
    saga = make_saga()
    log.add_step(saga, "first", pivot=True)
    saga.wait_for("never", timeout=timedelta(hours=1))
    async with bench.worker(saga):
        started = await bench.start(saga)
        await until(lambda: _waits(bench, "signal"))
        with pytest.raises(Exception, match='is past its pivot, step "first"'):
            await bench.rows("select cancel(%s, 'too late')", started)
        await bench.rows("select cancel(%s, 'all the same', true)", started)
        status = await bench.settled(started)
    assert (status.state, log.entries) == ("CANCELLED", ["first", "undo first"])


async def test_a_signal_that_does_not_fit_holds_up_neither_the_next_one_nor_a_worker(
    bench: Bench,
) -> None:
    saga = make_saga()
    saga.wait_for("decide", result=Line, timeout=timedelta(hours=1))
    fits = {"sku": "tea", "count": 1}

    async def suspended(saga_id: UUID) -> None:
        status = await bench.settled(saga_id)
        assert status.status == "SUSPENDED"
        assert status.reason == (
            'step "decide": the payload of signal "decide" is not what is waited for: '
            "Line: sku: Field required (got {'count': 'many'}); count: Input should be a valid "
            "integer, unable to parse string as an integer (got 'many')"
        )

    async with bench.worker(saga) as running, bench.connection() as connection:
        tell = bench.client.signal
        # Another comes before a person has looked: kept, and taken at the retry.
        first = await bench.start(saga)
        await tell(connection, first, "decide", {"count": "many"})
        await suspended(first)
        assert await tell(connection, first, "decide", fits) == "kept"
        await bench.rows("select retry(%s, 'they corrected it')", first)
        assert (await bench.settled(first)).output == fits
        # It comes afterwards, to a saga that waits again.
        second = await bench.start(saga)
        await tell(connection, second, "decide", {"count": "many"})
        await suspended(second)
        await bench.rows("select retry(%s, 'they will correct it')", second)

        async def waits() -> bool:
            return bool(await bench.rows("select 1 from waiting where saga_id = %s", second))

        await until(waits)
        assert await tell(connection, second, "decide", fits) == "delivered"
        assert (await bench.settled(second)).output == fits
        assert not running.task.done()
    taken = await bench.rows("select saga_id, ordinal, taken_by from signals order by number")
    assert taken == [(saga_id, 1, "decide") for saga_id in (first, first, second, second)]
    assert await bench.violations() == []

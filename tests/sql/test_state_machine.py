"""Random interleavings of everything that can happen to a few sagas, against a small model."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from outbox.store.functions import Report
from tests.fixtures import Schema
from tests.sql.conftest import running_engine
from tests.sql.engine import BOTH_WAYS, LEASE, Engine, Worker, report
from tests.sql.model import Model
from tests.sql.sagas import ENTRY, ORDER
from tests.sql.world import World

RETENTION = timedelta(minutes=10)
SLOTS = st.integers(0, 2)
OUTCOMES: list[tuple[str, dict[str, Any]]] = [
    *[("done", {})] * 6,
    ("rejected", {}),
    ("retry", {}),
    ("retry", {"no_effect": True}),
    ("retry", {"give_up": True}),
    ("retry", {"after": timedelta()}),
    ("in_doubt", {"doubt_for": timedelta(seconds=30)}),
    ("in_doubt", {"counted": False}),
]

# So that a failure found can be found again.
WITHOUT_JITTER = """
create or replace function retry_delay(p_base interval, p_cap interval, p_failures integer)
returns interval language sql volatile as $$
    select least(p_cap, p_base * power(2, least(p_failures, 30)))
$$
"""


class Interleavings(World, RuleBasedStateMachine):
    """Three workers, some sagas, operators, and a clock that jumps."""

    def __init__(self, engine: Engine) -> None:
        RuleBasedStateMachine.__init__(self)
        World.__init__(self, engine)

    @initialize()
    def begin(self) -> None:
        for number in (1, 2, 3):
            self.start(number)

    @rule(number=st.integers(1, 6))
    def start(self, number: int) -> None:
        definition = ORDER if number % 2 else ENTRY
        key = f"key-{number}"
        saga = self.engine.start(definition.type, key)
        assert self.keys.get(key, saga) == saga
        if key not in self.keys:
            self.keys[key] = saga
            self.models[saga] = Model(definition)

    @rule(slot=SLOTS, limit=st.integers(1, 3))
    def claim(self, slot: int, limit: int) -> None:
        worker = self.workers[slot]
        before = self.engine.now()
        if worker.id not in self.expires:
            with pytest.raises(psycopg.Error) as refused:
                worker.claim(limit)
            assert refused.value.sqlstate == "SG007"
            return
        for claimed in worker.claim(limit):
            model = self.models[claimed.command]
            assert model.not_before is None or model.not_before <= self.engine.now()
            model.claim(worker.id)
            self.hands[worker.id][claimed.command] = claimed
            assert (claimed.fence, claimed.seq) == (model.fence, model.seq)
            assert claimed.in_doubt == (model.doubt_until is not None)
        left = "select count(*) from outbox where worker is null and status <> 'SUSPENDED' {}"
        if len(self.hands[worker.id]) < limit:
            assert not self.engine.value(left.format("and due_at <= %s"), before)

    def work(self, slot: int, data: st.DataObject, keep: bool) -> None:
        """A worker tells what became of what it has in hand, and perhaps something once more."""
        worker = self.workers[slot]
        hand = self.hands[worker.id]
        if not hand:
            self.claim(slot, 3)
        if not hand:
            return
        chosen = data.draw(st.lists(st.sampled_from(list(hand)), min_size=1, unique=True))
        reports: list[Report] = []
        for command in chosen:
            outcome, more = data.draw(st.sampled_from(OUTCOMES))
            reports.append(report(hand[command], outcome, **more))
        again = [t for w, t in self.told if w is worker and t.command not in chosen]
        if again:
            reports += data.draw(st.lists(st.sampled_from(again), max_size=1))
        self.commit(worker, reports, keep)

    # Work is what happens most.
    work_1 = rule(slot=SLOTS, data=st.data(), keep=st.just(True))(work)
    work_2 = rule(slot=SLOTS, data=st.data(), keep=st.just(True))(work)
    work_3 = rule(slot=SLOTS, data=st.data(), keep=st.booleans())(work)

    @rule(data=st.data(), keep=st.booleans())
    def tell_again(self, data: st.DataObject, keep: bool) -> None:
        """An outcome is told once more, by whoever told it, however long ago."""
        if self.told:
            worker, told = data.draw(st.sampled_from(self.told))
            self.commit(worker, [told], keep)

    @rule(data=st.data())
    def tell_late(self, data: st.DataObject) -> None:
        """A worker that died, or lost its command, tells the outcome of its attempt."""
        zombies = [w for w in self.hands if w not in {worker.id for worker in self.workers}]
        zombies = [w for w in zombies if self.hands[w]]
        if zombies:
            dead = data.draw(st.sampled_from(zombies))
            held = self.hands[dead][data.draw(st.sampled_from(list(self.hands[dead])))]
            worker = Worker.__new__(Worker)
            worker.engine, worker.id = self.engine, dead
            outcome, more = data.draw(st.sampled_from(OUTCOMES))
            self.commit(worker, [report(held, outcome, **more)], keep=False)

    @rule(slot=SLOTS)
    def die(self, slot: int) -> None:
        """A worker falls silent, and another takes its place."""
        self.workers[slot] = self.register()

    @rule(seconds=st.sampled_from([10, 20, 50, 120, 400]))
    def pass_time(self, seconds: int) -> None:
        self.engine.pass_time(seconds)
        for worker in self.workers:
            if worker.heartbeat():
                self.expires[worker.id] = self.engine.now() + LEASE

    @rule(slot=SLOTS)
    def fall_asleep(self, slot: int) -> None:
        self.workers[slot].doze()

    @rule()
    def reap(self) -> None:
        self.sweep()

    @rule(slot=SLOTS, data=st.data())
    def release(self, slot: int, data: st.DataObject) -> None:
        worker = self.workers[slot]
        hand = self.hands[worker.id]
        if hand:
            held = hand.pop(data.draw(st.sampled_from(list(hand))))
            model = self.models.get(held.command)
            assert held.fence is not None
            is_mine = model is not None and model.verdict(worker.id, held.fence) == "applied"
            assert worker.release(held) == ({held.command} if is_mine else set())
            if is_mine and model is not None:
                model.release()

    @rule(slot=SLOTS)
    def leave(self, slot: int) -> None:
        """An orderly shutdown; another takes its place."""
        worker = self.workers[slot]
        worker.deregister()
        self.expires.pop(worker.id, None)
        for model in self.models.values():
            if model.is_live and model.worker == worker.id:
                model.release()
        self.workers[slot] = self.register()

    @rule(data=st.data(), act=st.sampled_from(["retry", "abort", "COMPLETED", "FAILED"]))
    def operate(self, data: st.DataObject, act: str) -> None:
        if not self.models:
            return
        saga = data.draw(st.sampled_from(list(self.models)))
        model = self.models[saga]
        may = {"retry": model.may_retry, "abort": model.may_abort}.get(act, model.may_resolve)()
        if not may:
            with pytest.raises(psycopg.Error) as refused:
                self.act(saga, act)
            assert refused.value.sqlstate == "SG005"
            return
        status = self.act(saga, act)
        match act:
            case "retry":
                model.retry()
            case "abort":
                model.order_abort(self.engine.last(saga).at)
            case _:
                model.resolve(act)
        assert status == model.status
        self.note_end(saga)

    @rule()
    def purge(self) -> None:
        before = self.engine.now() - RETENTION
        self.engine.execute("select purge()")
        left = {row.id for row in self.engine.rows("select id from instance")}
        for saga in self.models.keys() - left:
            assert self.ended[saga] < before + timedelta(seconds=1)
            del self.models[saga]
        assert not [s for s in left if s in self.ended and self.ended[s] < before]
        self.keys = {key: saga for key, saga in self.keys.items() if saga in left}

    @invariant()
    def the_database_agrees_with_the_model(self) -> None:
        self.agree()

    def teardown(self) -> None:
        """From wherever it is, every saga comes to its end when its steps succeed."""
        worker = self.engine.worker("order", "entry", lease=timedelta(days=9))
        self.hands[worker.id] = {}
        self.expires[worker.id] = self.engine.now() + timedelta(days=9)
        for _ in range(30):
            if not any(model.is_live for model in self.models.values()):
                break
            for saga, model in self.models.items():
                if model.status == "SUSPENDED":
                    self.engine.retry(saga)
                    model.retry()
            self.engine.pass_time(600)
            self.sweep()
            for claimed in worker.claim(10):
                self.models[claimed.command].claim(worker.id)
                self.commit(worker, [report(claimed, "done")], keep=False)
            self.agree()
        assert not any(model.is_live for model in self.models.values())


@BOTH_WAYS
def test_no_interleaving_leaves_the_model(schema: Schema, one_by_one: bool) -> None:
    with running_engine(schema, one_by_one=one_by_one) as engine:
        engine.execute("update setting set retention = %s", RETENTION)
        engine.execute(WITHOUT_JITTER)
        run_state_machine_as_test(
            partial(Interleavings, engine),  # type: ignore[arg-type]  # any factory will do
            settings=settings(
                max_examples=75,
                stateful_step_count=50,
                deadline=None,
                phases=set(Phase) - {Phase.explain},
                suppress_health_check=list(HealthCheck),
            ),
        )

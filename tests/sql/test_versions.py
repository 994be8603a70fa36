"""Versions side by side, and sagas that move from one to another."""

from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from pydantic import BaseModel

from outbox import Retry, Saga
from tests.sql.engine import Engine
from tests.sql.lined import branched, make_lined
from tests.sql.positions import reach, suspend
from tests.sql.sagas import MINUTE, Order, act, make_order

STEPS = ("reserve", "inspect", "charge", "book", "mail", "archive")
UNDONE = {"reserve", "charge", "book", "archive"}


class Strict(BaseModel):
    """An input that needs more."""

    number: int = 1
    currency: str


def make(
    *steps: str,
    version: int = 2,
    undone: set[str] = UNDONE,
    pivot: str = "book",
    model: Any = Order,
) -> Saga[Any]:
    """An order with these steps."""
    saga: Saga[Any] = Saga("order", input=model, version=version)
    past = False
    for name in steps:
        past = past or name == pivot
        why = None if name in undone or past else "it reads"
        step = saga.step(
            name=name, pivot=name == pivot, nothing_to_undo=why, retry=Retry(2, 8, MINUTE)
        )(act)
        if name in undone:
            step.compensation(retry=Retry(2, 4, MINUTE))(act)
    return saga


def waiting(engine: Engine, position: str = "before the pivot") -> UUID:
    at = reach(engine, position)
    at.worker.say(at.held, "retry", after="1 hour")
    return at.saga


def move(engine: Engine, saga: UUID, version: int = 2, seq: int | None = None) -> Any:
    return engine.value("select move_saga(%s, %s, 'why', %s)", saga, version, seq)


def test_a_saga_moves_and_goes_on_in_the_other_version(engine: Engine) -> None:
    saga = waiting(engine)
    engine.register(make(*STEPS[:4], "notify", *STEPS[4:]))
    assert move(engine, saga, seq=engine.row(saga).seq) == "EXECUTING"
    assert (engine.row(saga).version, engine.instance(saga).version) == (2, 2)
    last = engine.last(saga)
    assert (last.kind, last.from_status, last.to_status) == ("act", "EXECUTING", "EXECUTING")
    assert engine.value("select detail from act") == {"from": 1, "to": 2}
    engine.pass_time(7200)
    assert engine.worker().claim() == [], "the old version's workers have it no more"
    worker = engine.worker(version=2)
    held: Any = worker.do(worker.claim_one(), until="notify")
    assert worker.say(worker.do(held, until="archive"), "done").status == "COMPLETED"


def test_a_suspended_undo_moves_and_is_undone_by_the_other_version(engine: Engine) -> None:
    at = suspend(engine, "compensation")
    engine.register(make(*STEPS))
    assert move(engine, at.saga) == "SUSPENDED"
    assert engine.retry(at.saga) == "COMPENSATING"
    worker = engine.worker(version=2)
    held: Any = worker.claim_one()
    undone = []
    while held.fence is not None:
        undone.append(held.step)
        held = worker.say(held, "done")
    assert undone == ["charge", "reserve"]


def test_a_saga_that_has_not_begun_begins_with_the_other_versions_first_step(
    engine: Engine,
) -> None:
    engine.register(make("greet", *STEPS))
    saga = engine.start(version=1)
    assert move(engine, saga) == "CREATED"
    assert engine.worker(version=2).claim_one().step == "greet"


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (make("reserve", "charge", "book"), 'step "inspect" is not in version 2'),
        (make("reserve", "inspect", "book"), 'step "charge" is not in version 2'),
        (
            make("inspect", "reserve", "charge", "book"),
            'step "inspect" comes before "reserve" in version 2',
        ),
        (
            make(*STEPS, undone=UNDONE - {"reserve"}),
            'step "reserve" is another one .*: it has no compensation any more',
        ),
        (
            make(*STEPS, undone=UNDONE | {"inspect"}),
            'step "inspect" is another one .*: it has a compensation now',
        ),
        (make(*STEPS, pivot="inspect"), 'step "inspect" is another one .*: it is the pivot now'),
        (make("reserve", "weigh", *STEPS[1:]), 'step "weigh" .* would have been done by now'),
        (make(*STEPS, model=Strict), 'input does not fit: the field "currency" is required'),
    ],
)
def test_a_saga_whose_position_has_no_place_there_stays(
    engine: Engine, other: Saga[Any], message: str
) -> None:
    saga = waiting(engine)
    engine.register(other)
    before = engine.everything()
    with pytest.raises(psycopg.Error, match=message) as caught:
        move(engine, saga)
    assert caught.value.sqlstate == "SG005"
    assert engine.everything() == before


def test_a_move_is_refused_while_it_runs_or_has_lines_or_does_not_live(engine: Engine) -> None:
    lined, _ = branched(engine)
    ended = engine.start()
    engine.abort(ended)
    resting = waiting(engine)
    held = reach(engine, "first").saga
    other = make_lined()
    other.version = 2
    engine.register(make(*STEPS), other)
    before = engine.everything()
    for saga, version, state, message in (
        (held, 2, "SG005", 'it is running step "reserve" now'),
        (lined, 2, "SG005", 'it has lines side by side: step "left" is due'),
        (resting, 1, "SG005", "it is of that version"),
        (resting, 3, "SG001", 'unknown saga type "order" version 3'),
        (ended, 2, "SG005", "has ended"),
        (uuid4(), 2, "SG004", "no saga"),
    ):
        with pytest.raises(psycopg.Error, match=message) as caught:
            move(engine, saga, version)
        assert caught.value.sqlstate == state
    with pytest.raises(psycopg.Error, match="you saw seq 0, it is at seq 3"):
        move(engine, resting, seq=0)
    assert engine.everything() == before


def test_many_move_and_those_that_do_not_fit_say_why(engine: Engine) -> None:
    resting, held = waiting(engine), reach(engine, "first").saga
    engine.register(make(*STEPS))
    statement = "select * from move_many('order', 1, 2, 'why', %s)"
    before = engine.everything()
    tried = engine.rows(statement, True)
    assert engine.everything() == before
    moved = engine.rows(statement, False)
    assert tried == moved
    assert [(row.saga_id, row.outcome) for row in moved] == [(resting, "EXECUTING"), (held, None)]
    assert 'running step "reserve"' in moved[1].problem
    with pytest.raises(psycopg.Error, match="needs a note"):
        engine.rows("select * from move_many('order', 1, 2, '')")
    with pytest.raises(psycopg.Error, match='unknown saga type "order" version 9'):
        engine.rows("select * from move_many('order', 1, 9, 'why')")


def test_a_change_of_a_version_names_the_sagas_that_it_would_break(engine: Engine) -> None:
    for number in range(7):
        engine.start(key=f"k-{number}")
    with pytest.raises(psycopg.Error, match=r"and 7 of its sagas live: (k-[0-6], ){5}…") as caught:
        engine.register(make(*STEPS, "more", version=1))
    assert caught.value.sqlstate == "SG008"


def test_live_versions_and_who_needs_one(engine: Engine) -> None:
    first = waiting(engine)
    suspend(engine)
    engine.register(make(*STEPS))
    rows = engine.rows("select * from live_versions where type = 'order' order by version")
    old = engine.instance(first).created_at
    assert [(r.version, r.live, r.suspended, r.workers, r.oldest_start) for r in rows] == [
        (1, 2, 1, 2, old),
        (2, 0, 0, 0, None),
    ]
    needing = engine.rows("select * from version_in_use('order', 1)")
    assert (first, "charge") in [(row.saga_id, row.step) for row in needing]
    assert len(needing) == 2
    assert engine.rows("select * from version_in_use('order', 2)") == []


def test_the_order_of_the_steps_here_is_that_of_the_tests(engine: Engine) -> None:
    assert tuple(step.name for step in make_order().steps) == STEPS

"""A saga that cannot be handed to a worker, whatever is wrong with it, holds up nobody else."""

from datetime import timedelta
from uuid import UUID

import pytest

from outbox import Saga
from tests.sql.engine import Engine, Worker
from tests.sql.sagas import Order, act

ONE_MINUTE = timedelta(minutes=1)
# As a function of ours would fail that finds two rows of what has to be one; or, with another
# condition, for quite other reasons.
SPOILED = """
create or replace function arrived(p_line outbox) returns json
language plpgsql stable set search_path from current as $$ begin
    if coalesce((p_line).root, (p_line).id) = '{saga}' then
        raise exception 'there are two of these' using errcode = '{code}';
    end if;
    return '{{}}'::json;
end $$
"""
TWO_ROWS, OUT_OF_MEMORY = "cardinality_violation", "out_of_memory"


@pytest.fixture
def worker(engine: Engine) -> Worker:
    """Of a saga that sleeps, and of one that sleeps on a branch."""
    napping = Saga("napping", input=Order)
    napping.sleep("nap", ONE_MINUTE)
    napping.step(name="last", nothing_to_undo="it reads")(act)
    branched = Saga("branched", input=Order)
    with branched.parallel("both") as group:
        branched.sleep("nap", ONE_MINUTE)
        with group.branch():
            branched.step(name="beside", nothing_to_undo="it reads")(act)
    engine.register(napping, branched)
    return engine.worker("napping", "branched", lease=timedelta(hours=1))


def spoil(engine: Engine, saga: UUID, code: str = TWO_ROWS) -> None:
    engine.execute(SPOILED.format(saga=saga, code=code))


def asleep(engine: Engine, worker: Worker, count: int) -> list[UUID]:
    """Sagas that have slept long enough."""
    sagas = [engine.start("napping") for _ in range(count)]
    for held in worker.claim():
        worker.say(held, "waiting", result='{"await": "time", "seconds": 60}')
    engine.pass_time(61)
    return sagas


def test_a_person_has_to_look_at_it_and_the_others_go_on(engine: Engine, worker: Worker) -> None:
    first, spoiled, last = asleep(engine, worker, 3)
    spoil(engine, spoiled)
    assert [held.command for held in worker.claim()] == [first, last]
    assert worker.held() == {first, last}
    (found,) = engine.rows("select saga_id, reason from manual_intervention")
    assert vars(found) == {
        "saga_id": spoiled,
        "reason": 'step "nap": it cannot be handed to a worker: there are two of these',
    }
    assert engine.last(spoiled).error["type"] == "NotHandedOver"
    assert worker.claim() == []

    # At a retry it waits anew, and in vain for as long as nothing is changed.
    for reason in ("there are two of these", None):
        engine.retry(spoiled)
        worker.say(worker.claim_one(), "waiting", result='{"await": "time", "seconds": 60}')
        engine.pass_time(61)
        if reason:
            assert worker.claim() == []
            assert engine.row(spoiled).reason.endswith(reason)
            spoil(engine, UUID(int=0))
    worker.say(worker.say(worker.claim_one(), "done"), "done")
    assert engine.instance(spoiled).status == "COMPLETED"
    for command in (first, last):
        engine.execute("select cancel(%s, 'over')", command)


def test_one_whose_saga_somebody_holds_is_given_back_meanwhile(
    engine: Engine, worker: Worker
) -> None:
    saga = engine.start("branched")
    worker.say(worker.claim_one(), "branched")
    nap, beside = sorted(worker.claim(), key=lambda held: held.step != "nap")
    worker.say(nap, "waiting", result='{"await": "time", "seconds": 60}')
    engine.pass_time(61)
    spoil(engine, saga)
    with engine.schema.connect() as other, other.transaction():
        other.execute("select from outbox where id = %s for update", (saga,))
        assert worker.claim() == []
        assert worker.held() == {beside.command}
        assert engine.row(nap.command).status == "EXECUTING"
    assert worker.claim() == []
    assert engine.row(nap.command).status == "SUSPENDED"
    worker.say(beside, "done")
    assert engine.value("select status from overview where saga_id = %s", saga) == "SUSPENDED"


def test_what_is_not_its_own_fault_is_said_to_the_worker(engine: Engine, worker: Worker) -> None:
    (saga,) = asleep(engine, worker, 1)
    spoil(engine, saga, OUT_OF_MEMORY)
    with pytest.raises(Exception, match="there are two of these"):
        worker.claim()
    assert engine.row(saga).status == "EXECUTING"
    spoil(engine, UUID(int=0))
    assert worker.claim_one().command == saga

"""A saga with lines side by side, for tests of acts and views."""

from uuid import UUID

from outbox import Retry, Saga
from tests.sql.engine import Engine, Worker
from tests.sql.sagas import MINUTE, Order, act


def make_lined() -> Saga[Order]:
    """Two branches side by side, behind the pivot, so that a failure there suspends."""
    saga = Saga("lined", input=Order)
    first = saga.step(name="first", pivot=True, retry=Retry(2, 8, MINUTE))(act)
    first.compensation()(act)
    with saga.parallel("both") as group:
        saga.step(name="left", retry=Retry(1, 8, MINUTE))(act)
        with group.branch():
            saga.step(name="right", retry=Retry(1, 8, MINUTE))(act)
    saga.step(name="last")(act)
    return saga


def branched(engine: Engine) -> tuple[UUID, Worker]:
    """A saga whose two branches may be claimed."""
    engine.register(make_lined())
    saga, worker = engine.start("lined"), engine.worker("lined")
    worker.say(worker.say(worker.claim_one(), "done"), "branched")
    return saga, worker


def both_suspended(engine: Engine) -> tuple[UUID, Worker]:
    """A saga both of whose branches are suspended."""
    saga, worker = branched(engine)
    for held in worker.claim():
        worker.say(held, "rejected")
    return saga, worker

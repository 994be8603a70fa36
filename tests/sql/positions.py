"""Brings a saga to where a test wants it."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from outbox.store.functions import Answer, Claimed
from tests.sql.engine import Engine, Worker

Held = Claimed | Answer

POSITIONS = {
    "first": ("order", "reserve"),
    "before the pivot": ("order", "charge"),
    "nothing to undo": ("order", "inspect"),
    "pivot": ("order", "book"),
    "after the pivot": ("order", "mail"),
    "last": ("order", "archive"),
    "transactional": ("entry", "post"),
    "transactional pivot": ("entry", "settle"),
}


@dataclass
class At:
    """A saga whose command at some position is in a worker's hand."""

    engine: Engine
    saga: UUID
    worker: Worker
    held: Held


def reach(engine: Engine, position: str) -> At:
    """A new saga that has come as far as `position`: one of POSITIONS, or "compensation"."""
    if position == "compensation":
        at = reach(engine, "pivot")
        at.held = at.worker.say(at.held, "rejected")
        return at
    type_, step = POSITIONS[position]
    saga, worker = engine.start(type_), engine.worker(type_)
    return At(engine, saga, worker, worker.do(worker.claim_one(), until=step))


def use_up(at: At, attempts: int) -> None:
    """Lets attempts fail without effect until only the last one is left."""
    for _ in range(attempts - 1):
        at.worker.say(at.held, "retry", no_effect=True, after="0 seconds")
        at.held = at.worker.claim_one()


def suspend(engine: Engine, position: str = "after the pivot", outcome: str = "rejected") -> At:
    at = reach(engine, position)
    more = {"give_up": True} if outcome == "retry" else {}
    assert at.worker.say(at.held, outcome, **more).status == "SUSPENDED"
    return at


def undo_all(at: At) -> list[str]:
    """Lets every undo succeed; the steps that were undone, in order."""
    undone = []
    at.engine.pass_time(3600)
    at.worker = at.engine.worker("order", "entry", lease=timedelta(hours=1))
    held = at.worker.claim_one()
    while held.fence is not None:
        assert held.kind == "compensation"
        undone.append(held.step)
        held = at.worker.say(held, "done")  # type: ignore[assignment]
    return undone

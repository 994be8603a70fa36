"""What must become of a saga, said once more without SQL: small enough to be believed.

A saga has a stack of effects: the steps that were done, or may have been, and can be undone. An
undo pops it. Everything else is bookkeeping of the one command that the saga has.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from outbox import Saga
from outbox.store.functions import Report

GRACE = timedelta(seconds=2)
MAX_DEATHS = 5
COLUMNS = (
    *("status", "kind", "step", "seq", "fence", "attempt", "failures", "deaths", "revision"),
    *("abort", "worker", "doubt_until"),
)


@dataclass
class Model:
    """One saga."""

    definition: Saga[Any]
    status: str = "CREATED"
    kind: str = "action"
    place: int = 0
    effects: list[int] = field(default_factory=list)
    seq: int = 0
    fence: int = 0
    attempt: int = 0
    failures: int = 0
    deaths: int = 0
    revision: int = 0
    abort: bool = False
    worker: UUID | None = None
    doubt_until: datetime | None = None
    not_before: datetime | None = None
    """The undo of something in doubt may not be claimed before."""
    applied: set[tuple[UUID, int]] = field(default_factory=set)
    """The (worker, fence) under which an outcome was applied."""

    @property
    def is_live(self) -> bool:
        return self.status not in ("COMPLETED", "FAILED")

    @property
    def step(self) -> str:
        return self.definition.steps[self.place].name

    def row(self) -> dict[str, object]:
        """What the outbox must hold."""
        return {name: getattr(self, name) for name in COLUMNS}

    def claim(self, worker: UUID) -> None:
        assert self.worker is None
        assert self.status in ("CREATED", "EXECUTING", "COMPENSATING")
        self.status = "EXECUTING" if self.status == "CREATED" else self.status
        self.worker = worker
        self.fence += 1

    def release(self) -> None:
        self.worker = None
        self.fence += 1

    def verdict(self, worker: UUID, fence: int) -> str:
        """What an outcome told by a worker under a fence must be answered."""
        if self.is_live and (self.worker, self.fence) == (worker, fence):
            return "applied"
        return "replayed" if (worker, fence) in self.applied else "fenced"

    def advance(self, told: Report, *, at: datetime) -> None:
        """Applies an outcome of the holder."""
        assert self.worker is not None
        self.applied.add((self.worker, self.fence))
        self.seq += 1
        self.fence += 1
        if told.outcome == "done":
            self._done()
        else:
            self._failed(told, at)
        if self.not_before is not None or self.attempt or not self.is_live:
            self.worker = None
        self.abort = False

    def _done(self) -> None:
        if self.kind == "compensation":
            self.effects.pop()
            self._turn_back()
            return
        if self.definition.steps[self.place].undo is not None:
            self.effects.append(self.place)
        if self.abort:
            self._turn_back()
        elif self.place + 1 == len(self.definition.steps):
            self.status = "COMPLETED"
        else:
            self._next("action", self.place + 1)

    def _failed(self, told: Report, at: datetime) -> None:
        step = self.definition.steps[self.place]
        runs = step if self.kind == "action" else step.undo
        assert runs is not None
        self.attempt += 1
        self.failures += told.counted
        knows = told.outcome == "rejected" or told.no_effect
        if not knows and not runs.transactional:
            late = at + (told.doubt_for or timedelta()) + GRACE
            self.doubt_until = max(self.doubt_until or late, late)
        is_over = (
            told.outcome == "rejected"
            or told.give_up
            or self.abort
            or self.failures >= runs.retry.attempts
        )
        pivot = next((n for n, s in enumerate(self.definition.steps) if s.pivot), None)
        is_past = pivot is not None and (
            self.place > pivot or (self.place == pivot and self.doubt_until is not None)
        )
        if not is_over:
            self.revision += told.no_effect and self.doubt_until is None
        elif self.kind == "compensation" or (is_past and not self.abort):
            self.status = "SUSPENDED"
        else:
            self._turn_back_from_here(at)

    def _turn_back_from_here(self, at: datetime) -> None:
        """Undoes what was done, and first this very step if its effect is in doubt."""
        wait = None
        if self.doubt_until is not None and self.definition.steps[self.place].undo is not None:
            self.effects.append(self.place)
            wait = self.doubt_until if self.doubt_until > at else None
        self._turn_back()
        self.not_before = wait

    def _turn_back(self) -> None:
        if self.effects:
            self.status = "COMPENSATING"
            self._next("compensation", self.effects[-1])
        else:
            self.status = "FAILED"

    def _next(self, kind: str, place: int) -> None:
        self.kind, self.place = kind, place
        self.attempt = self.failures = self.deaths = self.revision = 0
        self.doubt_until = self.not_before = None

    def lose(self, deadline: datetime, at: datetime) -> None:
        """The holder died, or held the command past its deadline."""
        step = self.definition.steps[self.place]
        runs = step if self.kind == "action" else step.undo
        assert runs is not None
        self.attempt += 1
        self.deaths += 1
        self.seq += 1
        self.release()
        if not runs.transactional:
            late = deadline + GRACE
            self.doubt_until = max(self.doubt_until or late, late)
        if self.deaths >= MAX_DEATHS:
            self.status = "SUSPENDED"
        elif self.abort:
            self.fence += 1
            self._turn_back_from_here(at)
            self.abort = False

    def may_retry(self) -> bool:
        return self.is_live and self.worker is None and self.status != "CREATED"

    def retry(self) -> None:
        if self.status == "SUSPENDED":
            self.revision += self.doubt_until is None
        self.status = "EXECUTING" if self.kind == "action" else "COMPENSATING"
        self.seq += 1
        self.fence += 1
        self.failures = self.deaths = 0

    def may_abort(self) -> bool:
        return self.is_live and self.kind == "action"

    def order_abort(self, at: datetime) -> None:
        self.seq += 1
        if self.worker is not None:
            self.abort = True
            return
        self.fence += 1
        # That a step which waits for its next attempt is in doubt is a transition of its own.
        self.seq += self.doubt_until is not None and self.status != "SUSPENDED"
        self._turn_back_from_here(at)
        self.abort = False

    def may_resolve(self) -> bool:
        return self.status == "SUSPENDED"

    def resolve(self, status: str) -> None:
        self.status = status
        self.worker = None

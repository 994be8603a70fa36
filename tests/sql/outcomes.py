"""The failures that an attempt may end in, and what a held command looks like."""

from datetime import timedelta
from typing import Any

from outbox.store.functions import Answer
from tests.sql.positions import At

GRACE, HOLD = timedelta(seconds=2), timedelta(seconds=30)
"""As the table setting has them."""

DOUBT = timedelta(seconds=20)

UNKNOWN: dict[str, tuple[str, dict[str, Any]]] = {
    "retry": ("retry", {}),
    "in doubt": ("in_doubt", {"doubt_for": DOUBT}),
    "give up": ("retry", {"give_up": True}),
}
"""Failures that may have had an effect: the outcome, and what else is reported."""

NO_EFFECT: dict[str, tuple[str, dict[str, Any]]] = {
    "rejected": ("rejected", {}),
    "without effect": ("retry", {"no_effect": True}),
    "gives up without effect": ("retry", {"no_effect": True, "give_up": True}),
}

FAILURES = UNKNOWN | NO_EFFECT


def is_held(at: At, answer: Answer, kind: str, step: str, timeout: int = 60) -> None:
    """The worker holds this command, as the answer and the row say."""
    row, last = at.engine.row(at.saga), at.engine.last(at.saga)
    assert (answer.kind, answer.step, answer.attempt) == (kind, step, 1)
    assert (answer.ordinal, answer.revision, answer.in_doubt) == (row.ordinal, 0, False)
    assert (row.kind, row.step, row.attempt, row.failures, row.deaths) == (kind, step, 0, 0, 0)
    assert (row.worker, row.fence) == (at.worker.id, answer.fence)
    assert row.fence == last.fence + 1
    assert row.deadline == last.at + HOLD + timedelta(seconds=timeout)
    assert (row.doubt_until, last.due_at) == (None, None)

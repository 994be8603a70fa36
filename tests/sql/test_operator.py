"""What a person may do to a saga, and when not."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.sql.engine import Engine
from tests.sql.positions import reach, suspend, undo_all


def acts(engine: Engine, saga: UUID) -> list[tuple[str, str, int]]:
    rows = engine.rows("select act, note, seq from act where saga_id = %s order by seq", saga)
    return [(row.act, row.note, row.seq) for row in rows]


@pytest.mark.parametrize(
    ("outcome", "revision"), [("rejected", 1), ("retry", 0)], ids=["no effect", "in doubt"]
)
def test_retry_runs_the_failed_step_again_under_a_new_key_only_if_it_had_no_effect(
    engine: Engine, outcome: str, revision: int
) -> None:
    at = suspend(engine, outcome=outcome)
    before = engine.row(at.saga)
    assert engine.retry(at.saga, "the mail server is back") == "EXECUTING"
    row, last = engine.row(at.saga), engine.last(at.saga)
    assert (row.status, row.reason, row.failures, row.revision) == ("EXECUTING", None, 0, revision)
    assert (row.seq, row.fence, row.due_at) == (before.seq + 1, before.fence + 1, last.at)
    assert (last.kind, last.outcome, last.worker) == ("act", "act", None)
    assert (last.from_status, last.to_status) == ("SUSPENDED", "EXECUTING")
    assert acts(engine, at.saga) == [("retry", "the mail server is back", row.seq)]
    again = at.worker.claim_one()
    assert (again.step, again.attempt, again.in_doubt) == ("mail", 2, outcome == "retry")
    at.worker.say(at.worker.do(again, until="archive"), "done")


def test_retry_gives_the_whole_policy_again(engine: Engine) -> None:
    at = suspend(engine)
    engine.retry(at.saga)
    again = at.worker.claim_one()
    assert at.worker.say(again, "retry", after=timedelta()).status == "EXECUTING"
    assert at.worker.say(at.worker.claim_one(), "retry").status == "SUSPENDED"


def test_retry_of_a_failed_undo_goes_on_undoing(engine: Engine) -> None:
    at = suspend(engine, "compensation")
    assert engine.retry(at.saga) == "COMPENSATING"
    assert undo_all(at) == ["charge", "reserve"]
    assert engine.instance(at.saga).status == "FAILED"


def test_retry_ends_the_wait_for_the_next_attempt(engine: Engine) -> None:
    at = reach(engine, "first")
    at.worker.say(at.held, "retry", after=timedelta(hours=1))
    assert at.worker.claim() == []
    assert engine.retry(at.saga) == "EXECUTING"
    assert engine.row(at.saga).revision == 0
    assert at.worker.claim_one().attempt == 2


def test_retry_does_not_end_the_wait_before_the_undo_of_what_is_in_doubt(engine: Engine) -> None:
    at = reach(engine, "before the pivot")
    at.worker.say(at.held, "in_doubt", give_up=True, doubt_for=timedelta(minutes=5))
    due_at = engine.row(at.saga).due_at
    assert engine.retry(at.saga) == "COMPENSATING"
    assert engine.row(at.saga).due_at == due_at
    assert at.worker.claim() == []
    assert undo_all(at) == ["charge", "reserve"]


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED"])
@pytest.mark.parametrize("position", ["after the pivot", "compensation"])
def test_resolve_closes_a_suspended_saga(engine: Engine, position: str, status: str) -> None:
    at = suspend(engine, position)
    assert engine.resolve(at.saga, status, "settled by phone") == status
    ended = engine.instance(at.saga)
    why = {"type": "Resolved", "message": "settled by phone"}
    assert (ended.status, ended.output) == (status, None)
    assert ended.error == (why if status == "FAILED" else None)
    assert engine.rows("select * from outbox") == []
    assert acts(engine, at.saga)[-1][:2] == ("resolve", "settled by phone")


def ended(engine: Engine) -> UUID:
    saga = engine.start()
    engine.abort(saga)
    return saga


MAKE: dict[str, Callable[[Engine], UUID]] = {
    "unknown": lambda engine: uuid4(),
    "CREATED": lambda engine: engine.start(),
    "held": lambda engine: reach(engine, "first").saga,
    "undoing": lambda engine: reach(engine, "compensation").saga,
    "suspended undo": lambda engine: suspend(engine, "compensation").saga,
    "ended": ended,
}


@pytest.mark.parametrize(
    ("act", "where", "state", "message"),
    [
        ("retry", "unknown", "SG004", "no saga has the id"),
        ("retry", "CREATED", "SG005", "has not begun"),
        ("retry", "held", "SG005", 'is running step "reserve"'),
        ("retry", "undoing", "SG005", 'is running step "charge"'),
        ("retry", "ended", "SG005", "has ended: it is FAILED since"),
        ("abort", "unknown", "SG004", "no saga has the id"),
        ("abort", "undoing", "SG005", "is being undone already"),
        ("abort", "suspended undo", "SG005", "is being undone already"),
        ("abort", "ended", "SG005", "has ended"),
        ("resolve", "unknown", "SG004", "no saga has the id"),
        ("resolve", "CREATED", "SG005", "only a suspended one can be resolved"),
        ("resolve", "held", "SG005", "only a suspended one can be resolved"),
        ("resolve", "ended", "SG005", "has ended"),
    ],
)
def test_an_act_that_does_not_fit_is_refused_and_changes_nothing(
    engine: Engine, act: str, where: str, state: str, message: str
) -> None:
    saga = MAKE[where](engine)
    before = engine.everything()
    arguments = ("FAILED",) if act == "resolve" else ()
    with pytest.raises(psycopg.Error, match=message) as caught:
        getattr(engine, act)(saga, *arguments)
    assert caught.value.sqlstate == state
    assert engine.everything() == before


def test_an_act_needs_a_note_and_a_resolution_a_status(engine: Engine) -> None:
    saga = suspend(engine).saga
    before = engine.everything()
    for note in ("", "  ", None):
        for act in (engine.retry, engine.abort):
            with pytest.raises(psycopg.Error, match="needs a note") as caught:
                act(saga, note)  # type: ignore[arg-type]
            assert caught.value.sqlstate == "SG002"
    with pytest.raises(psycopg.Error, match='COMPLETED or FAILED, not as "DONE"'):
        engine.resolve(saga, "DONE")
    assert engine.everything() == before


def test_an_act_on_a_saga_that_has_moved_on_says_what_happened_since(engine: Engine) -> None:
    at = reach(engine, "nothing to undo")
    seen = engine.row(at.saga).seq
    at.worker.say(at.worker.say(at.held, "done"), "retry", after=timedelta(hours=1))
    before = engine.everything()
    with pytest.raises(
        psycopg.Error, match=r"you saw seq 1, it is at seq 3 now \(2 inspect done, 3 charge retry\)"
    ) as caught:
        engine.abort(at.saga, seq=seen)
    assert caught.value.sqlstate == "SG006"
    assert engine.everything() == before
    assert engine.abort(at.saga, seq=3) == "COMPENSATING"


def test_of_two_operators_at_once_one_wins(engine: Engine) -> None:
    saga = suspend(engine).saga
    seq = engine.row(saga).seq

    def act(name: str) -> str:
        with engine.schema.connect() as connection:
            try:
                row = connection.execute(
                    f"select {name}(%s, 'why', %s)",
                    (saga, seq),
                ).fetchone()
            except psycopg.Error as error:
                return str(error.sqlstate)
            assert row is not None
            return str(row[0])

    with ThreadPoolExecutor() as executor:
        ends = sorted(executor.map(act, ["retry", "abort", "retry", "abort"]))
    assert ends[-3:] == ["SG006"] * 3
    assert ends[0] in ("COMPENSATING", "EXECUTING")
    assert len(acts(engine, saga)) == 1

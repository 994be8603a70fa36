"""Acts on many sagas, reruns, what an abort would do, and what was done before."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.sql.engine import Engine, Rows
from tests.sql.lined import both_suspended, branched
from tests.sql.positions import At, reach, suspend

DOWN = '{"type": "ProviderDown", "message": "no answer from the mail server"}'


def many(
    engine: Engine, act: str, filter_: dict[str, Any], *, dry: bool = False, **arguments: Any
) -> Rows:
    return engine.rows(
        "select * from act_many(%s, 'why', %s, %s, %s)",
        *(act, Jsonb(filter_), dry, Jsonb(arguments)),
    )


def suspended_by(engine: Engine, error: str) -> At:
    at = reach(engine, "after the pivot")
    assert at.worker.say(at.held, "rejected", error=error).status == "SUSPENDED"
    return at


def explain(engine: Engine, saga: UUID) -> list[tuple[str, str]]:
    rows = engine.rows("select * from explain_abort(%s) order by place", saga)
    return [(row.what, row.step) for row in rows]


def test_an_act_goes_to_those_that_the_filter_finds(engine: Engine) -> None:
    down, boom = suspended_by(engine, DOWN), suspend(engine)
    (row,) = many(engine, "retry", {"type": "order", "error": "ProviderDown", "step": "mail"})
    assert (row.saga_id, row.step, row.error) == (down.saga, "mail", "ProviderDown")
    assert (row.key, row.outcome, row.problem) == (str(down.saga), "EXECUTING", None)
    assert engine.row(boom.saga).status == "SUSPENDED"
    assert many(engine, "retry", {"older_than": "1 hour"}) == []
    engine.pass_time(7200)
    (row,) = many(engine, "retry", {"older_than": "1 hour"})
    assert row.saga_id == boom.saga


@pytest.mark.parametrize(
    ("act", "arguments", "outcome"),
    [
        ("retry", {}, "EXECUTING"),
        ("abort", {}, "COMPENSATING"),
        ("cancel", {"force": True}, "COMPENSATING"),
        ("skip", {"result": {"by": "hand"}}, "EXECUTING"),
        ("resolve", {"status": "FAILED"}, "FAILED"),
        ("pause_saga", {}, "SUSPENDED"),
    ],
)
def test_a_dry_run_says_what_would_happen_and_changes_nothing(
    engine: Engine, act: str, arguments: dict[str, Any], outcome: str
) -> None:
    saga = suspend(engine).saga
    before = engine.everything()
    (row,) = many(engine, act, {"status": "SUSPENDED"}, dry=True, **arguments)
    assert (row.saga_id, row.outcome, row.problem) == (saga, outcome, None)
    assert engine.everything() == before
    assert many(engine, act, {"status": "SUSPENDED"}, **arguments) == [row]
    assert engine.everything() != before


def test_one_that_fails_stops_no_other(engine: Engine) -> None:
    first, held, last = suspend(engine).saga, reach(engine, "pivot").saga, suspend(engine).saga
    rows = many(engine, "retry", {"type": "order", "limit": 10})
    assert [row.saga_id for row in rows] == [first, last]
    assert many(engine, "cancel", {"type": "order"}, dry=True)[0].problem.endswith('step "book"')
    rows = many(engine, "resolve", {"type": "order", "status": "EXECUTING"}, status="COMPLETED")
    assert {row.saga_id for row in rows} == {first, held, last}
    assert all("only a suspended one can be resolved" in row.problem for row in rows)
    paused = many(engine, "pause_saga", {"type": "order"})
    assert len(paused) == 3
    assert {row.outcome for row in many(engine, "resume_saga", {})} == {"EXECUTING"}
    assert engine.value("select pauses from setting") is False


def test_a_saga_with_several_lines_is_one_row(engine: Engine) -> None:
    saga, _ = both_suspended(engine)
    (row,) = many(engine, "skip", {"type": "lined"})
    assert "several commands" in row.problem
    (row,) = many(engine, "skip", {"type": "lined", "step": "right"})
    assert (row.saga_id, row.step, row.outcome) == (saga, "right", "EXECUTING")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("explode", "why", {}), 'no act "explode"'),
        ((None, "why", {}), "no act"),
        (("retry", " ", {}), "needs a note"),
        (("retry", "why", []), "must be a JSON object, not array"),
        (("retry", "why", {"tpye": "order"}), "does not know: tpye"),
        (("cancel", "why", {}), "would cancel every saga"),
        (("pause_saga", "why", {"limit": 3}), "would pause every saga"),
        (("retry", "why", {"older_than": "long"}), "cannot be read: .*long"),
    ],
)
def test_a_filter_that_is_not_meant_is_refused(
    engine: Engine, arguments: tuple[Any, str, Any], message: str
) -> None:
    suspend(engine)
    before = engine.everything()
    act, note, filter_ = arguments
    with pytest.raises(psycopg.Error, match=message) as caught:
        engine.rows("select * from act_many(%s, %s, %s)", act, note, Jsonb(filter_))
    assert caught.value.sqlstate == "SG002"
    assert engine.everything() == before


def test_many_acts_at_once_do_each_saga_once(engine: Engine) -> None:
    sagas = {suspend(engine).saga for _ in range(6)}

    def act(name: str) -> Rows:
        with engine.schema.connect() as connection:
            return connection.execute(
                'select saga_id from act_many(%s, \'why\', \'{"type": "order", '
                '"status": "SUSPENDED"}\') where problem is null',
                (name,),
            ).fetchall()

    with ThreadPoolExecutor() as executor:
        done = [row[0] for rows in executor.map(act, ["retry", "abort"] * 2) for row in rows]  # type: ignore[index]
    assert sorted(done) == sorted(sagas)


def test_a_rerun_starts_the_same_again_and_both_know(engine: Engine) -> None:
    old = engine.start(key="k", number=3)
    engine.abort(old)
    first, second = (engine.act("rerun", old, "once more") for _ in range(2))
    assert [engine.instance(saga).key for saga in (first, second)] == ["k/rerun/1", "k/rerun/2"]
    assert engine.instance(first).input == {"number": 3}
    told = [
        engine.value(
            "select string_agg(what, '; ' order by at) from timeline where saga_id = %s", s
        )
        for s in (old, first)
    ]
    assert f"as {first}: once more" in told[0]
    assert f"as a rerun of {old}: once more" in told[1]
    with pytest.raises(psycopg.Error, match='key "k" exists') as caught:
        engine.act("rerun", old, "once more", "k")
    assert caught.value.sqlstate == "SG003"
    assert engine.instance(engine.act("rerun", old, "once more", "mine")).key == "mine"


def test_reruns_at_once_get_keys_of_their_own(engine: Engine) -> None:
    old = engine.start(key="k")
    engine.abort(old)

    def run(_: int) -> Any:
        with engine.schema.connect() as connection:
            return connection.execute("select rerun(%s, 'why')", (old,)).fetchone()

    with ThreadPoolExecutor() as executor:
        assert len(set(executor.map(run, range(4)))) == 4


def test_a_rerun_of_what_has_not_ended_is_refused(engine: Engine) -> None:
    saga = suspend(engine).saga
    ended = engine.start()
    engine.abort(ended)
    before = engine.everything()
    for statement, state, message in (
        (("rerun", saga, "why"), "SG005", 'it is SUSPENDED, step "mail" is suspended'),
        (("rerun", uuid4(), "why"), "SG004", "no saga"),
        (("rerun", ended, " "), "SG002", "needs a note"),
    ):
        with pytest.raises(psycopg.Error, match=message) as caught:
            engine.act(*statement)
        assert caught.value.sqlstate == state
    with pytest.raises(psycopg.Error, match="you saw seq 7, it is at seq 1"):
        engine.act("rerun", ended, "why", p_seq=7)
    assert engine.everything() == before


def test_explain_abort_tells_what_an_abort_does(engine: Engine) -> None:
    at = suspend(engine, outcome="retry")
    assert explain(engine, at.saga) == [
        ("undo", "book"),
        ("undo", "charge"),
        ("undo", "reserve"),
        ("stays", "mail"),
        ("stays", "inspect"),
    ]
    whys = engine.rows("select step, why, in_doubt from explain_abort(%s)", at.saga)
    assert [(w.why, w.in_doubt) for w in whys if w.step in ("mail", "inspect")] == [
        ("it is after the pivot, and has no compensation", True),
        ("nothing to undo: it reads", False),
    ]
    engine.abort(at.saga)
    undone = []
    engine.pass_time(3600)
    worker = engine.worker()
    held: Any = worker.claim_one()
    while held.fence is not None:
        undone.append(held.step)
        assert explain(engine, at.saga)[0] == ("undo", held.step)
        held = worker.say(held, "done")
    assert undone == ["book", "charge", "reserve"]
    with pytest.raises(psycopg.Error, match="has ended: it is FAILED"):
        explain(engine, at.saga)


def test_explain_abort_tells_what_finishes_first(engine: Engine) -> None:
    saga, worker = branched(engine)
    left, _ = sorted(worker.claim(), key=lambda held: held.step)
    assert explain(engine, saga) == [("finishes", "right"), ("finishes", "left"), ("undo", "first")]
    worker.say(left, "done")
    assert explain(engine, saga) == [("finishes", "right"), ("undo", "first"), ("stays", "left")]


def test_past_resolutions_are_found_by_words_error_and_step(engine: Engine) -> None:
    at = suspended_by(engine, DOWN)
    engine.retry(at.saga, "the provider had an outage, which is over")
    at.worker.say(at.worker.claim_one(), "done")
    other = suspend(engine)
    engine.resolve(other.saga, "FAILED", "the customer was refunded by phone")
    aborted = engine.start()
    engine.abort(aborted, "refunded, but it was never suspended")

    def find(**by: str) -> list[tuple[str, str, str]]:
        named = ", ".join(f"p_{name} => %s" for name in by)
        rows = engine.rows(f"select * from past_resolutions({named})", *by.values())  # noqa: S608
        return [(row.act, row.led_to, row.note) for row in rows]

    retried = ("retry", "mail: done", "the provider had an outage, which is over")
    resolved = ("resolve", "FAILED", "the customer was refunded by phone")
    assert find() == [resolved, retried]
    assert find(words="outages") == [retried]
    assert find(words='"mail server"') == [retried], "the error's words count as well"
    assert find(words="refund -outage") == [resolved]
    assert find(error="ProviderDown", step="mail") == [retried]
    assert find(step="charge") == []


def test_past_resolutions_know_of_lines(engine: Engine) -> None:
    saga, _ = both_suspended(engine)
    engine.act("skip", saga, "packed by hand", p_step="right")
    (row,) = engine.rows("select * from past_resolutions()")
    assert (row.step, row.error["type"], row.detail["step"]) == ("right", "Boom", "right")
    assert "after the pivot" in row.reason

"""The audit names every violated invariant."""

from collections.abc import Callable

import pytest

from tests.sql.engine import Engine
from tests.sql.positions import At, reach, suspend


def completed(engine: Engine) -> At:
    at = reach(engine, "last")
    at.worker.say(at.held, "done")
    return at


def failed(engine: Engine) -> At:
    at = reach(engine, "compensation")
    at.worker.say(at.worker.say(at.held, "done"), "done")
    return at


def executing(engine: Engine) -> At:
    return reach(engine, "pivot")


OF_LIMITS = {
    "a ticket is a live saga's",
    "a slot is a live saga's",
    "a saga that runs holds its slots",
    "a command of a type with limits is held once it was let in",
}
"""Broken in test_limits.py."""

BROKEN: list[tuple[str, Callable[[Engine], At], str]] = [
    ("a live saga has a command", executing, "delete from outbox"),
    (
        "a finished saga has no command",
        executing,
        "update instance set status = 'COMPLETED', ended_at = now()",
    ),
    ("a command belongs to a saga", executing, "delete from instance"),
    ("a transition belongs to a saga", completed, "delete from instance"),
    ("the seq has no gap", executing, "delete from transition where seq = 2"),
    ("the seq has no gap", executing, "delete from transition where seq = 1"),
    ("the command knows its seq", executing, "update outbox set seq = 7"),
    ("the command knows its seq", executing, "delete from transition where seq = 3"),
    (
        "a transition begins where the last one ended",
        failed,
        "update transition set to_status = 'SUSPENDED' where seq = 2",
    ),
    (
        "a saga that ended stays ended",
        completed,
        "update transition set to_status = 'COMPLETED' where seq = 2",
    ),
    (
        "the history ends in the saga's status",
        completed,
        "update instance set status = 'FAILED', error = '{}'",
    ),
    ("a finished saga has a history", completed, "delete from transition"),
    ("a fence only rises", executing, "update transition set fence = 9 where seq = 1"),
    ("no attempt is missing", executing, "update transition set attempt = 2 where seq = 3"),
    (
        "a command is done once",
        executing,
        "update transition set ordinal = 2, attempt = 2 where seq = 3",
    ),
    (
        "a completed saga did every step",
        completed,
        "update transition set outcome = 'rejected', error = '{}' where seq = 2",
    ),
    (
        "a completed saga did every step",
        failed,
        "update instance set status = 'COMPLETED', error = null",
    ),
    (
        "a completed saga undid nothing",
        failed,
        "update instance set status = 'COMPLETED', error = null",
    ),
    (
        "a failed saga undid what it did",
        failed,
        "update transition set outcome = 'retry', error = '{}' where kind = 'compensation'",
    ),
    (
        "a failed saga undid what it did",
        completed,
        "update instance set status = 'FAILED', error = '{}'",
    ),
    (
        "undo goes in the reverse order",
        failed,
        "update transition set undoes = 4 - undoes, "
        "step = case step when 'charge' then 'reserve' else 'charge' end "
        "where kind = 'compensation'",
    ),
    (
        "only what was done or in doubt is undone",
        failed,
        "update transition set outcome = 'rejected', error = '{}' where seq = 3",
    ),
    (
        "only what was done or in doubt is undone",
        failed,
        "update transition set undoes = 9 where undoes = 3",
    ),
    ("a failed saga is listed", failed, "delete from failure"),
    (
        "what is listed as failed has failed",
        failed,
        "update instance set status = 'COMPLETED', error = null",
    ),
]


@pytest.mark.parametrize(("invariant", "make", "damage"), BROKEN)
def test_what_was_broken_by_hand_is_named(
    engine: Engine, invariant: str, make: Callable[[Engine], At], damage: str
) -> None:
    sound = reach(engine, "after the pivot")
    at = make(engine)
    assert engine.audit() == []
    for table in ("transition", "instance", "outbox"):
        engine.execute(f"alter table {table} disable trigger user")
    table = damage.removeprefix("delete from ").removeprefix("update ").split()[0]
    column = "saga_id" if table in ("transition", "failure") else "id"
    condition = f"{'and' if ' where ' in damage else 'where'} {column} = '{at.saga}'"
    engine.execute(f"{damage} {condition}")
    found = engine.audit()
    assert invariant in {name for _, name, _ in found}
    assert {saga for saga, _, _ in found} == {at.saga}, "the sound one is not accused"
    assert all(detail for _, _, detail in found)
    assert sound.worker.held() >= {sound.saga}
    engine.audits_at_end = False


def test_each_invariant_of_the_audit_is_among_those_broken_here(engine: Engine) -> None:
    source = engine.value("select prosrc from pg_proc where oid = 'audit()'::regprocedure")
    named = engine.connection.execute(
        "select replace(m[1], '''''', '''') from regexp_matches(%s, "
        "$$\\.(?:saga_id|id), '((?:[^']|'')+)',$$, 'g') as m",
        (source,),
    ).fetchall()
    assert {name for (name,) in named} - OF_LIMITS == {name for name, _, _ in BROKEN}


def test_a_saga_resolved_by_hand_may_be_what_its_person_says(engine: Engine) -> None:
    for position in ("after the pivot", "compensation"):
        for status in ("COMPLETED", "FAILED"):
            engine.resolve(suspend(engine, position).saga, status)
    assert engine.audit() == []


def test_the_audit_is_clean_while_others_are_at_work(engine: Engine) -> None:
    at = reach(engine, "pivot")
    with engine.schema.connect(autocommit=False) as other:
        other.execute("select start('order', '{}')")
        other.execute("select abort(%s, 'why')", (at.saga,))
        assert engine.audit() == []
        other.commit()
    assert engine.audit() == []

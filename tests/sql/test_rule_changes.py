"""Whoever changes a rule is kept, with what it was before."""

from typing import Any

import psycopg
import pytest

from outbox import Limit, Saga
from outbox.definition.registry import describe_limits
from tests.sql.engine import Engine
from tests.sql.sagas import Order, make_single


def changes(engine: Engine) -> list[tuple[Any, ...]]:
    return [
        (row.rule, row.act, row.type, row.name, row.note, row.before, row.after)
        for row in engine.rows("select * from rule_changes order by number")
    ]


def test_a_limit_is_kept_as_it_was_and_as_it_is(engine: Engine) -> None:
    engine.register(make_single())
    engine.execute("select set_limit('single', 'all', 3, p_note => 'the bank is slow')")
    engine.execute("select set_limit('single', 'all', 3, p_note => 'as it is')")
    engine.execute("select set_limit('single', 'all', 5, 'number', p_counts_waiting => true)")
    engine.execute("select set_limit('single', 'rate', 9, p_per => '90 s', p_note => '  ')")
    engine.execute("select drop_limit('single', 'all', 'over')")
    keyed = {"amount": 5, "key": "number", "counts_waiting": True}
    assert changes(engine) == [
        ("limit", "set", "single", "all", "the bank is slow", None, {"amount": 3}),
        ("limit", "set", "single", "all", None, {"amount": 3}, keyed),
        ("limit", "set", "single", "rate", None, None, {"amount": 9, "per": 90}),
        ("limit", "drop", "single", "all", "over", keyed, None),
    ]


def test_what_a_program_declares_is_kept_too(engine: Engine) -> None:
    saga = Saga("limited", input=Order, limits=[Limit(2)])
    saga.step(name="only", nothing_to_undo="it reads")(_act)
    engine.register(saga)
    for version, declared in ((1, describe_limits(saga)), (1, describe_limits(saga)), (2, "[]")):
        engine.execute("select declare_limits('limited', %s, %s::text::jsonb)", version, declared)
    assert [row[1:] for row in changes(engine)] == [
        ("declare", "limited", "all", "version 1 declares it", None, {"amount": 2}),
        ("declare", "limited", "all", "version 2 has no such limit", {"amount": 2}, None),
    ]


def test_a_schedule_is_kept_and_its_ticks_are_not(engine: Engine) -> None:
    engine.register(make_single())
    given = "'nightly', 'single', '0 3 * * *', 'UTC', '{\"number\": 5}', 'all'"
    engine.execute(f"select set_schedule({given}, 'the auditors')")
    engine.execute(f"select set_schedule({given})")
    engine.execute("select pause_schedule('nightly', 'holidays')")
    engine.execute("select pause_schedule('nightly', 'once more')")
    engine.execute("update schedule set last_tick = last_tick - interval '1 day'")
    engine.execute("select resume_schedule('nightly')")
    engine.execute("select resume_schedule('nightly')")
    engine.execute("select drop_schedule('nightly', 'no more')")
    rule = {
        "type": "single", "cron": "0 3 * * *", "zone": "UTC", "catch_up": "all",
        "input": {"number": 5},
    }  # fmt: skip
    paused = {**rule, "paused": True}
    assert changes(engine) == [
        ("schedule", "set", "single", "nightly", "the auditors", None, rule),
        ("schedule", "pause", "single", "nightly", "holidays", rule, paused),
        ("schedule", "resume", "single", "nightly", None, paused, rule),
        ("schedule", "drop", "single", "nightly", "no more", rule, None),
    ]


def test_retentions_are_kept(engine: Engine) -> None:
    engine.register(make_single())
    engine.execute("select set_retention('single', '2 days', 'the law')")
    engine.execute("select set_retention('single', '36 hours')")
    engine.execute("select drop_retention('single', 'as all others')")
    assert changes(engine) == [
        ("retention", "set", "single", None, "the law", None, {"days": 2}),
        ("retention", "set", "single", None, None, {"days": 2}, {"days": 1.5}),
        ("retention", "drop", "single", None, "as all others", {"days": 1.5}, None),
    ]


def test_subscriptions_are_kept_and_their_secrets_are_not(engine: Engine) -> None:
    first, second = (f"whsec_{letter * 32}" for letter in "ab")
    url = "https://shop.example/hooks?token=hidden"
    for secret in (first, first, second):
        engine.execute("select subscribe('shop', '{*}', %s, %s, p_note => 'new')", url, secret)
    engine.execute("select unsubscribe('shop', 'closed')")
    made, rotated, ended = changes(engine)
    assert made[:5] == ("subscription", "set", None, "shop", "new")
    assert made[6]["url"] == "https://shop.example/hooks"
    assert (rotated[5], ended[5]) == (made[6], rotated[6])
    assert {k for k in made[6] if made[6][k] != rotated[6][k]} == {"fingerprint"}
    assert (ended[1], ended[4], ended[6]) == ("drop", "closed", None)
    kept = engine.value("select string_agg(r::text, ' ') from rule_change r")
    assert first not in kept
    assert second not in kept
    assert "hidden" not in kept


def test_it_says_who(engine: Engine) -> None:
    engine.register(make_single())
    with engine.schema.connect() as connection, connection.transaction():
        connection.execute("select set_config('outbox.actor', 'ann', true)")
        connection.execute("select set_limit('single', 'all', 3)")
    assert engine.value("select actor = 'ann via ' || session_user from rule_changes")


def test_what_is_refused_is_not_kept(engine: Engine) -> None:
    engine.register(make_single())
    for refused in (
        "select set_limit('single', 'all', -1, p_note => 'no')",
        "select drop_limit('single', 'all', 'no')",
        "select set_retention('single', '0', 'no')",
        "select drop_schedule('nightly', 'no')",
    ):
        with pytest.raises(psycopg.Error):
            engine.execute(refused)
    assert changes(engine) == []


async def _act(cmd: Any) -> None: ...

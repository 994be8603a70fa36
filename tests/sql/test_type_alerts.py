"""Alerts of whole types: a type lags, or too few of its sagas complete."""

from datetime import timedelta
from uuid import UUID

from tests.sql.engine import Engine
from tests.sql.positions import reach

NOBODY = UUID(int=0)


def alerts(engine: Engine) -> list[tuple[str, str]]:
    """Raises what is to be raised; the kind and the type of what is new."""
    return [(row.kind, row.type) for row in engine.rows("select * from raise_type_alerts()")]


def events(engine: Engine) -> list[tuple[str, str]]:
    rows = engine.rows("select name, type from event where saga_id = %s order by number", NOBODY)
    return [(row.name, row.type) for row in rows]


def test_a_type_that_lags_is_told_once_and_told_again_when_it_is_over(engine: Engine) -> None:
    saga = engine.start()
    assert alerts(engine) == []
    engine.pass_time(61)
    assert alerts(engine) == [("lag", "order")]
    assert alerts(engine) == []
    assert events(engine) == [("alert.lag", "order")]
    engine.abort(saga)
    assert alerts(engine) == []
    assert events(engine) == [("alert.lag", "order"), ("alert.resolved", "order")]
    engine.start()
    engine.pass_time(61)
    assert alerts(engine) == [("lag", "order")]
    assert engine.value("select count(*) from type_alert") == 2


def test_what_waits_for_its_time_or_is_held_or_paused_does_not_lag(engine: Engine) -> None:
    reach(engine, "pivot")
    engine.execute("select start('order', '{}', 'later', p_due_at => clock() + interval '1 hour')")
    engine.execute("select pause('why', 'entry')")
    engine.start("entry")
    engine.pass_time(61)
    assert alerts(engine) == []
    engine.execute("select resume('why', 'entry')")
    assert alerts(engine) == [("lag", "entry")]


def test_priority_does_not_make_a_type_lag(engine: Engine) -> None:
    engine.execute("select start('order', '{}', 'urgent', p_priority => 10)")
    assert alerts(engine) == []


def test_no_lag_is_told_where_the_setting_is_off(engine: Engine) -> None:
    engine.execute("update setting set alert_lag = null")
    engine.start()
    engine.pass_time(3600)
    assert alerts(engine) == []


def test_too_few_completions_are_told_once_enough_have_ended(engine: Engine) -> None:
    engine.execute("update setting set alert_completion_rate = 0.5, alert_least = 3")
    for _ in range(2):
        engine.abort(engine.start())
    assert alerts(engine) == []
    engine.abort(engine.start())
    assert alerts(engine) == [("completion_rate", "order")]
    (told,) = engine.rows("select payload from event")
    assert told.payload["message"] == (
        "of 3 sagas of order that were started in 00:15:00 and ended, 0 completed"
    )
    for _ in range(3):
        at = reach(engine, "last")
        at.worker.say(at.held, "done")
    assert alerts(engine) == []
    assert [name for name, _ in events(engine)] == ["alert.completion_rate", "alert.resolved"]


def test_what_is_over_is_forgotten_with_its_events(engine: Engine) -> None:
    saga = engine.start()
    engine.pass_time(61)
    alerts(engine)
    engine.abort(saga)
    alerts(engine)
    engine.execute("update event set relayed = true")
    engine.pass_time(timedelta(days=29))
    engine.rows("select * from purge()")
    assert len(events(engine)) == 2
    engine.pass_time(timedelta(days=2))
    engine.rows("select * from purge()")
    assert events(engine) == []
    assert engine.value("select count(*) from type_alert") == 0

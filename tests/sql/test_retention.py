"""How long finished sagas are kept, and what is written of them before they go."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import psycopg
import pytest

from tests.sql.engine import Engine


def finished(engine: Engine, type_: str = "single") -> UUID:
    saga = engine.start(type_)
    engine.abort(saga)
    return saga


def left(engine: Engine) -> set[UUID]:
    return {row.id for row in engine.rows("select id from instance")}


def purge(engine: Engine) -> int:
    removed, after = 0, None
    while True:
        (row,) = engine.rows("select * from purge(2, %s)", after)
        removed += row.removed
        after = row.next_after
        if after is None:
            return removed


def test_a_type_may_be_kept_longer_or_shorter_than_the_others(engine: Engine) -> None:
    short, usual, long = (finished(engine, type_) for type_ in ("single", "entry", "order"))
    engine.execute("select set_retention('single', '1 day')")
    engine.execute("select set_retention('order', '60 days')")
    engine.pass_time(timedelta(days=2))
    assert purge(engine) == 1
    assert left(engine) == {usual, long}
    engine.pass_time(timedelta(days=30))
    assert purge(engine) == 1
    assert left(engine) == {long}
    engine.pass_time(timedelta(days=30))
    assert purge(engine) == 1
    assert short not in left(engine)


def test_what_lives_is_never_removed(engine: Engine) -> None:
    saga = engine.start("single")
    engine.execute("select set_retention('single', '1 second')")
    engine.pass_time(timedelta(days=100))
    assert purge(engine) == 0
    assert left(engine) == {saga}


def test_a_retention_is_dropped(engine: Engine) -> None:
    engine.execute("select set_retention('single', '1 day')")
    engine.execute("select drop_retention('single')")
    finished(engine)
    engine.pass_time(timedelta(days=2))
    assert purge(engine) == 0
    with pytest.raises(psycopg.Error, match='saga type "single" has no retention of its own'):
        engine.execute("select drop_retention('single')")
    with pytest.raises(psycopg.Error, match='unknown saga type "none"'):
        engine.execute("select set_retention('none', '1 day')")
    with pytest.raises(psycopg.Error, match="are kept for more than"):
        engine.execute("select set_retention('single', '0')")


def test_starts_once_in_a_period_are_remembered_as_long_as_it_lasts(engine: Engine) -> None:
    call = "select * from start_once_per('single', '{}', 'k', '50 days')"
    (first,) = engine.rows(call)
    engine.abort(first.id)
    engine.pass_time(timedelta(days=40))
    assert purge(engine) == 1
    (again,) = engine.rows(call)
    assert (again.id, again.created) == (first.id, False)
    engine.pass_time(timedelta(days=11))
    purge(engine)
    assert engine.value("select count(*) from once_per") == 0


def test_an_export_says_all_and_removes_only_what_it_said(engine: Engine) -> None:
    old = [finished(engine) for _ in range(3)]
    other = finished(engine, "order")
    alive = engine.start("single")
    engine.execute(
        "insert into event (saga_id, seq, type, version, step, name, payload, at) "
        "values (%s, 1, 'single', 1, 'only', 'single.seen', '{}', clock())",
        min(old),
    )
    engine.pass_time(timedelta(days=1))
    before = engine.now()
    engine.pass_time(timedelta(days=1))
    young = finished(engine)
    first = engine.rows("select * from export_sagas(%s, 'single', 2)", before)
    rest = engine.rows("select * from export_sagas(%s, 'single', 2, %s)", before, first[-1].id)
    assert [row.id for row in first + rest] == sorted(old)
    told = first[0].saga
    assert told["instance"]["status"] == "FAILED"
    assert [t["kind"] for t in told["transitions"]] == ["act"]
    assert told["acts"][0]["act"] == "abort"
    assert [e["name"] for e in told["events"]] == ["single.seen"]
    assert engine.value("select purge_exported(%s, %s)", [*old, alive, young], before) == 3
    assert left(engine) == {other, alive, young}


def test_the_trace_of_a_removed_saga_goes_with_it(engine: Engine) -> None:
    saga = finished(engine)
    engine.execute(
        "select keep_trace(%s, '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01')", saga
    )
    engine.pass_time(timedelta(days=31))
    assert purge(engine) == 1
    assert engine.value("select count(*) from trace_context") == 0

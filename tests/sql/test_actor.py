"""Who acts, as the database keeps it."""

from __future__ import annotations

from outbox.operator import Operator
from outbox.store.acting import acting_as
from outbox.store.connect import connect
from tests.sql.engine import Engine


async def test_a_login_may_say_for_whom_it_acts_and_is_named_itself(engine: Engine) -> None:
    login = engine.value("select session_user")
    saga = engine.start(key="a")
    operator = Operator(engine.schema.name)
    async with await connect(engine.schema.dsn) as connection:
        async with acting_as(connection, "ann"):
            await operator.pause_saga(connection, saga, "for ann")
        await operator.resume_saga(connection, saga, "for nobody")
        async with acting_as(connection, ""):
            await operator.cancel(connection, saga, "for nobody either")
        async with acting_as(connection, "x" * 300):
            await operator.rerun(connection, saga, "long")
    found = {row.note: row.actor for row in engine.rows("select note, actor from act")}
    assert found == {
        "for ann": f"ann via {login}",
        "for nobody": login,
        "for nobody either": login,
    }
    (pause,) = engine.rows("select actor, resumed_by from pause")
    assert (pause.actor, pause.resumed_by) == (f"ann via {login}", login)
    assert engine.value("select actor from rerun") == f"{'x' * 200} via {login}"

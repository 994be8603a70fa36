"""The hot statements go to the rows that they are about, whatever the planner believed of the
tables when it made their plans, and however many rows wait beside them."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.sql.engine import Engine, Worker, report
from tests.sql.looks import Look, explaining, looking

BATCH = 20
WAITING = 20_000
PAGES_A_COMMAND = 25
"""What a statement may look at for each of its commands; a scan would look at hundreds."""


@pytest.fixture
def connection(engine: Engine) -> Iterator[psycopg.Connection[Any]]:
    with explaining(engine.schema) as opened:
        yield opened


def start(engine: Engine, connection: psycopg.Connection[Any], count: int, prefix: str) -> None:
    keys = [f"{prefix}-{n}" for n in range(count)]
    connection.execute(
        "select count(*) from start_many('order', array_fill('{}'::jsonb, array[%s]), %s)",
        (count, keys),
    )


@pytest.mark.parametrize("beforehand", ["never analyzed", "analyzed when empty"])
def test_hot_statements_look_at_their_rows_only(
    engine: Engine, connection: psycopg.Connection[Any], beforehand: str
) -> None:
    engine.execute("alter table outbox set (autovacuum_enabled = off)")
    engine.execute("alter table instance set (autovacuum_enabled = off)")
    engine.execute("alter table transition set (autovacuum_enabled = off)")
    if beforehand == "analyzed when empty":
        engine.execute("vacuum (analyze) outbox, instance, transition")
    worker = engine.worker()

    def pass_once(prefix: str) -> dict[str, Look]:
        """Every hot statement once, on the connection that keeps their plans."""
        found = {}
        with looking(connection) as found["start_many"]:
            start(engine, connection, BATCH, prefix)
        with looking(connection) as found["claim"]:
            held: list[Any] = worker.claim(BATCH, connection)
        commands = [[h.command for h in held], [h.fence for h in held]]
        with looking(connection) as found["lock_held"]:
            connection.execute(
                "select * from lock_held(%s, %s, %s::int[], '1 minute')", (worker.id, *commands)
            )
        with looking(connection) as found["advance"]:
            held = advance(worker, held[:-4], "done")
        with looking(connection) as found["divert"]:
            advance(worker, held[:4], "retry")
        with looking(connection) as found["recall"]:
            connection.execute(
                "select * from recall(%s, %s, %s::int[])",
                (worker.id, [h.command for h in held], [h.fence for h in held]),
            )
        with looking(connection) as found["release"]:
            connection.execute(
                "select release(%s, %s, %s::int[])",
                (worker.id, [h.command for h in held], [h.fence for h in held]),
            )
        return found

    def advance(worker: Worker, held: list[Any], outcome: str) -> list[Any]:
        return worker.advance(*(report(h, outcome) for h in held), connection=connection)

    pass_once("before")  # the plans are made now
    with engine.schema.connect() as other:
        start(engine, other, WAITING, "waiting")
    for name, look in pass_once("after").items():
        assert not look.scanned, f"{name} scanned a table"
        assert look.pages < PAGES_A_COMMAND * BATCH, f"{name} looked at {look.pages} pages"


def test_no_plan_is_compiled_for_its_price(engine: Engine) -> None:
    """Before Postgres 18 a plan that has no way but a disabled one costs ten thousand million, and
    would be compiled by LLVM, anew in every statement, wherever that is installed."""
    rows = engine.rows(
        "select proname, proconfig from pg_proc where proconfig::text like '%%enable\\_%%' "
        "and pronamespace = current_schema()::regnamespace"
    )
    assert {row.proname for row in rows} >= {"advance", "divert", "claim", "start_many"}
    assert [row.proname for row in rows if "jit=off" not in row.proconfig] == []

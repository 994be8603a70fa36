"""What docs/psql.md has typed can be typed."""

import re

import pytest

from tests.docs.examples import DOCS
from tests.fixtures import Schema, fresh_schema
from tests.sql.conftest import running_engine

STATEMENTS = [
    statement
    for block in re.findall(r"```sql\n(.*?)```", (DOCS / "psql.md").read_text(), re.DOTALL)
    for statement in re.findall(r"select.*?;", block, re.DOTALL)
]


@pytest.mark.parametrize("server", ["postgres_dsn", "pg15_dsn"])
def test_every_statement_runs(request: pytest.FixtureRequest, server: str) -> None:
    assert len(STATEMENTS) > 20
    dsn = request.getfixturevalue(server)
    with fresh_schema(dsn) as schema, running_engine(schema) as engine:
        engine.start(key="order/order-0243/pay")  # whose story the page tells
        for statement in STATEMENTS:
            engine.connection.execute(statement.encode()).fetchall()


def test_every_view_is_named(schema: Schema) -> None:
    page = (DOCS / "psql.md").read_text()
    with schema.connect() as connection:
        views = connection.execute(
            "select relname from pg_class where relkind = 'v' "
            "and relnamespace = current_schema()::regnamespace"
        ).fetchall()
    elsewhere = {"live", "subscriptions", "dead_letters", "definitions"}
    assert [view for (view,) in views if view not in elsewhere and view not in page] == []

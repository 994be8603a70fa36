"""The examples of docs/limits.md, docs/schedules.md and docs/retention.md."""

import asyncio
from typing import Any

from outbox import App, Rules
from tests.docs.examples import python_blocks
from tests.engine.bench import Bench
from tests.fixtures import Schema


def run_block(page: str) -> dict[str, Any]:
    (block,) = python_blocks(page)
    names: dict[str, Any] = {"__name__": page}
    exec(compile(block, page, "exec"), names)
    return names


def test_the_limits_that_are_declared_are_registered(schema: Schema) -> None:
    names = run_block("limits.md")
    asyncio.run(Bench(schema).register(names["payment"]))
    with schema.connect() as connection:
        rows = connection.execute("select name, amount, key, set_by from limits order by 1")
        assert rows.fetchall() == [
            ("all", 50, None, "version 1"),
            ("customer", 1, "customer", "version 1"),
            ("rate", 100, None, "version 1"),
        ]


def test_the_schedule_is_set(schema: Schema) -> None:
    names = run_block("schedules.md")
    asyncio.run(Bench(schema).register(*App([names["report"]]).sagas.values()))
    with schema.connect() as connection:
        names["set_up"](connection, Rules(schema.name))
        rows = connection.execute("select name, type, zone, input from schedules").fetchall()
        assert rows == [("nightly", "report", "Europe/Berlin", {"region": "eu"})]


def test_the_retention_is_set(schema: Schema) -> None:
    payment = run_block("limits.md")["payment"]
    asyncio.run(Bench(schema).register(payment))
    with schema.connect() as connection:
        run_block("retention.md")["set_up"](connection, Rules(schema.name))
        rows = connection.execute("select type, keep::text from retention").fetchall()
        assert rows == [("payment", "730 days")]

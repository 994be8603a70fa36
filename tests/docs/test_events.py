"""The examples of docs/events.md and docs/once.md run as they stand there."""

from typing import Any

import pytest

from tests.docs.examples import python_blocks
from tests.engine.bench import Bench, until
from tests.fixtures import Schema


@pytest.fixture
def bench(schema: Schema) -> Bench:
    return Bench(schema)


def run_block(page: str) -> dict[str, Any]:
    (block,) = python_blocks(page)
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(block, page, "exec", dont_inherit=True), names)
    return names


async def test_the_events_of_the_example_reach_its_subscriber(bench: Bench) -> None:
    found = run_block("events.md")
    async with bench.worker(found["app"]), bench.connection() as connection:
        started = await bench.client.start(connection, found["order"], found["Order"](amount=5))
        await until(lambda: bool(found["told"]))
    (event,) = found["told"]
    assert (event.name, event.payload, event.saga_id) == (
        "payment.authorized", {"amount": 5}, started.id,
    )  # fmt: skip


async def test_the_example_books_one_flight(bench: Bench) -> None:
    found = run_block("once.md")
    async with bench.worker(found["trip"]), bench.connection() as connection:
        trip = found["Trip"](city="Rome")
        started = await bench.client.start(connection, found["trip"], trip)
        settled = await bench.settled(started.id)
    assert settled.output == ["F-1", "H-3"]
    assert found["calls"] == ["flight to Rome", "hotel in Rome", "hotel in Rome"]

"""The examples of the pages about the language, run by a real worker."""

from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest

from outbox import App, Saga, SagaStatus
from tests.docs.examples import python_blocks
from tests.engine.bench import Bench, until
from tests.fixtures import Schema


@pytest.fixture
def bench(schema: Schema) -> Bench:
    """Small sagas in a schema of the test's own."""
    return Bench(schema)


def load(page: str, directory: Path) -> ModuleType:
    """A page's Python blocks as one module: annotations are looked up in its globals."""
    file = directory / f"{page.removesuffix('.md').replace('-', '_')}.py"
    file.write_text("\n".join(python_blocks(page)))
    module = ModuleType(file.stem)
    module.__file__ = str(file)
    exec(compile(file.read_text(), str(file), "exec"), module.__dict__)
    return module


async def start(bench: Bench, saga: Saga[Any], **given: Any) -> UUID:
    async with bench.connection() as connection:
        return (await bench.client.start(connection, saga, given)).id


async def run(bench: Bench, saga: Saga[Any], *others: Saga[Any], **given: Any) -> SagaStatus:
    """The saga's end; a worker runs it and the others."""
    async with bench.worker(App([saga, *others])):
        status = await bench.settled(await start(bench, saga, **given))
    assert await bench.violations() == []
    return status


async def results(bench: Bench, saga: UUID) -> dict[str, Any]:
    rows = await bench.rows(
        "select step, result from transition where saga_id = %s and outcome = 'done'", saga
    )
    return dict(rows)


@pytest.mark.parametrize(
    ("express", "expected"),
    [
        (True, {"book_courier": "courier", "pay_at_once": "at once"}),
        (False, {"pay_later": "later"}),
    ],
)
async def test_parallel(
    bench: Bench, tmp_path: Path, express: bool, expected: dict[str, str]
) -> None:
    page = load("parallel.md", tmp_path)
    status = await run(bench, page.order, address="here", express=express)
    assert status.status == "COMPLETED", status.error
    found = await results(bench, status.id)
    assert found["tell"] == "invoice-1, parcel-7 to here"
    assert expected.items() <= found.items()
    assert ("book_courier" in found) == express


async def test_fan_out(bench: Bench, tmp_path: Path) -> None:
    page = load("fan-out.md", tmp_path)
    lines = [{"sku": "apple", "count": 2}, {"sku": "pear", "count": 1}]
    status = await run(bench, page.cart, lines=lines)
    assert (status.status, status.output) == ("COMPLETED", "2 x apple, 1 x pear")
    status = await run(bench, page.cart, lines=[*lines, {"sku": "plum", "count": 101}])
    assert (status.status, status.error["message"]) == ("FAILED", "101 of plum are too many")


async def test_sub_sagas(bench: Bench, tmp_path: Path) -> None:
    page = load("sub-sagas.md", tmp_path)
    status = await run(bench, page.trip, page.fee, price=420)
    assert (status.status, status.output) == ("COMPLETED", "took 42")


async def test_waiting(bench: Bench, tmp_path: Path) -> None:
    page = load("waiting.md", tmp_path)
    async with bench.worker(page.request), bench.connection() as connection:
        saga = await start(bench, page.request, amount=5000)

        async def is_waiting() -> bool:
            return bool(await bench.rows("select 1 from outbox where awaits = 'signal'"))

        await until(is_waiting)
        assert await page.approve(connection, bench.client, saga) == "delivered"
        assert await page.approve(connection, bench.client, saga) == "repeated"
        status = await bench.settled(saga)
    assert (status.status, status.output) == ("COMPLETED", "approved by ann")


async def test_deadlines(bench: Bench, tmp_path: Path) -> None:
    page = load("deadlines.md", tmp_path)
    assert page.offer.deadline == timedelta(seconds=0.5)
    status = await run(bench, page.offer)
    assert (status.status, status.error["type"]) == ("FAILED", "DeadlineExceeded")


async def test_reconcile(bench: Bench, tmp_path: Path) -> None:
    page = load("reconcile.md", tmp_path)
    await bench.rows("update setting set grace = '0.1 seconds'")
    status = await run(bench, page.booking, number="LH 1")
    assert (status.status, status.output) == ("COMPLETED", "seat on LH 1")


async def test_best_effort(bench: Bench, tmp_path: Path) -> None:
    page = load("best-effort.md", tmp_path)
    status = await run(bench, page.signup, email="a@example.com")
    assert (status.status, status.error["type"]) == ("COMPLETED", "BestEffort")

"""Whatever operators do, and whenever: no saga is lost, none does anything twice, and each is done,
undone or handed to a person."""

from __future__ import annotations

import pytest

from tests.engine.bench import Bench
from tests.engine.storm import Storm


@pytest.mark.timeout(60)
async def test_whatever_operators_do_every_saga_ends_as_it_should(bench: Bench) -> None:
    storm = Storm(bench, 1, types=8, seconds=3)
    await storm.run()
    await storm.check()


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(2, 102))
async def test_whatever_operators_do_in_a_longer_storm(bench: Bench, seed: int) -> None:
    """A seed makes the same shapes again, and much the same acts; not the same instants."""
    storm = Storm(
        bench,
        seed,
        types=2 + seed % 9,
        seconds=6,
        people=2 + seed % 2,
        mischief=(1, 2, 0.3)[seed % 3],
        strict=True,
    )
    deadlocks = "select deadlocks from pg_stat_database where datname = current_database()"
    before = await bench.rows(deadlocks)
    await storm.run()
    await storm.check()
    assert await bench.rows(deadlocks) == before

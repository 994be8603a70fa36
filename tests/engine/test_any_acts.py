"""Whatever operators do, and whenever: no saga is lost, none does anything twice, and each is done,
undone or handed to a person."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import ServerFactory
from tests.engine.bench import Bench
from tests.engine.kill_storm import KillStorm
from tests.engine.storm import Storm
from tests.fixtures import fresh_schema


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


@pytest.mark.timeout(90)
async def test_whatever_kills_workers_every_saga_ends_as_it_should(
    bench: Bench, tmp_path: Path
) -> None:
    storm = KillStorm(bench, 1, tmp_path, types=6, seconds=4)
    await storm.run()
    await storm.check()
    assert storm.deaths > 0


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(2, 102))
async def test_whatever_kills_workers_and_the_database_in_a_longer_storm(
    bench: Bench, server_factory: ServerFactory, tmp_path: Path, seed: int
) -> None:
    more = {"types": 2 + seed % 9, "seconds": 8, "mischief": (1, 2, 0.3)[seed % 3]}
    if seed % 2:
        await _storm(KillStorm(bench, seed, tmp_path, **more))
        return
    server = server_factory()
    with fresh_schema(server.dsn) as schema:
        await _storm(KillStorm(Bench(schema), seed, tmp_path, server=server, **more))


async def _storm(storm: KillStorm) -> None:
    await storm.run()
    await storm.check()

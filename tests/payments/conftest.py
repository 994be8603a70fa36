"""A world for payments."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.payments.world import World


@pytest.fixture
def world(postgres_dsn: str, tmp_path: Path) -> Iterator[World]:
    """A world of the test's own, on the shared server; no worker runs yet."""
    with World(postgres_dsn, tmp_path) as made:
        yield made

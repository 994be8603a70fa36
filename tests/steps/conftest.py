"""What the shipped sagas talk to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.bench import Bench
from tests.fixtures import Schema
from tests.steps.town import Town


@pytest.fixture
def town(schema: Schema, tmp_path: Path) -> Iterator[Town]:
    """Partners, provider, mail and webhooks, on a schema of the test's own."""
    with Town(Bench(schema), tmp_path) as made:
        yield made

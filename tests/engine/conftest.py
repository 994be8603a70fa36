"""A bench for small sagas."""

import pytest

from tests.engine.bench import Bench
from tests.fixtures import Schema


@pytest.fixture
def bench(schema: Schema) -> Bench:
    """Small sagas in a schema of the test's own."""
    return Bench(schema)

"""The engine's SQL, with the sagas of these tests registered."""

import contextlib
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest

from tests.fixtures import Schema
from tests.sql.engine import Engine, Worker
from tests.sql.sagas import ENTRY, ORDER, SINGLE

Starter = Callable[..., tuple[UUID, Worker]]


@contextlib.contextmanager
def running_engine(schema: Schema) -> Iterator[Engine]:
    """An engine with the sagas registered; what it did passes the audit in the end."""
    engine = Engine(schema)
    with contextlib.closing(engine.connection):
        engine.register(ORDER, ENTRY, SINGLE)
        yield engine
        if engine.audits_at_end:
            assert engine.audit() == []


@pytest.fixture
def engine(schema: Schema) -> Iterator[Engine]:
    """The SQL functions of a fresh schema; every history that a test makes must pass the audit."""
    with running_engine(schema) as made:
        yield made

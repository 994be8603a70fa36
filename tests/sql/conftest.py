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
def running_engine(schema: Schema, *, one_by_one: bool = False) -> Iterator[Engine]:
    """An engine with the sagas registered; what it did passes the audit in the end."""
    engine = Engine(schema)
    engine.one_by_one = one_by_one
    with contextlib.closing(engine.connection):
        engine.register(ORDER, ENTRY, SINGLE)
        yield engine
        if engine.audits_at_end:
            assert engine.audit() == []


@pytest.fixture
def one_by_one() -> bool:
    """Whether what advance() and divert() know for many at once is left to step_on(), which has to
    come to the same: a module sets it by ``pytestmark = BOTH_WAYS``."""
    return False


@pytest.fixture
def engine(schema: Schema, one_by_one: bool) -> Iterator[Engine]:
    """The SQL functions of a fresh schema; every history that a test makes must pass the audit."""
    with running_engine(schema, one_by_one=one_by_one) as made:
        yield made

"""Starting sagas from Python, in the caller's own transaction, sync and async."""

import asyncio
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row, namedtuple_row
from pydantic import BaseModel, ConfigDict, Field, computed_field

from outbox import Client, Command, Saga
from outbox.errors import InputError, KeyConflictError, NotFoundError, UnknownTypeError
from tests.engine.bench import Bench
from tests.fixtures import Schema


class Order(BaseModel):
    """An input with a default."""

    number: int
    comment: str = "none"
    at: datetime | None = None


saga = Saga("order", input=Order)


@saga.step(nothing_to_undo="it does nothing")
async def note(cmd: Command[Order]) -> int:
    return cmd.input.number


@pytest.fixture
def client(schema: Schema) -> Client:
    return Client(schema.name)


@pytest.fixture
def connection(schema: Schema) -> Iterator[psycopg.Connection[Any]]:
    """An autocommit connection; the type is registered, and a business table is there."""
    asyncio.run(Bench(schema).register(saga))
    with schema.connect() as connection:
        connection.execute("create table business (number integer)")
        yield connection


def count(connection: psycopg.Connection[Any], table: str) -> int:
    query = psycopg.sql.SQL("select count(*) from {}").format(psycopg.sql.Identifier(table))
    row = connection.cursor(row_factory=psycopg.rows.tuple_row).execute(query).fetchone()
    assert row is not None
    return int(row[0])


def test_saga_and_business_row_commit_together(
    connection: psycopg.Connection[Any], client: Client
) -> None:
    with connection.transaction():
        connection.execute("insert into business values (1)")
        started = client.start(connection, saga, Order(number=1), key="order-1")
    assert started.created
    assert client.status(connection, started.id).status == "CREATED"
    assert count(connection, "business") == 1


def test_or_not_at_all(connection: psycopg.Connection[Any], client: Client) -> None:
    with connection.transaction(force_rollback=True):
        connection.execute("insert into business values (1)")
        started = client.start(connection, saga, Order(number=1), key="order-1")
    assert (count(connection, "business"), count(connection, "instance")) == (0, 0)
    with pytest.raises(NotFoundError, match=str(started.id)):
        client.status(connection, started.id)


async def test_the_same_on_an_async_connection(schema: Schema, client: Client) -> None:
    await Bench(schema).register(saga)
    async with await psycopg.AsyncConnection.connect(schema.dsn) as connection:
        started = await client.start(connection, saga, Order(number=1), key="a")
        await connection.rollback()
        assert await client.find(connection, "order", "a") is None
        started = await client.start(connection, saga, Order(number=1), key="a")
        await connection.commit()
        again = await client.start(connection, saga, Order(number=1), key="a")
        assert (again.id, again.created) == (started.id, False)
        found = await client.find(connection, "order", "a")
        assert found is not None
        assert found.id == started.id
        with pytest.raises(TimeoutError, match="still CREATED after 0"):
            await client.wait(connection, started.id, timeout=0.05)


@pytest.mark.parametrize("rows", [dict_row, namedtuple_row])
def test_the_callers_row_factory_does_not_matter(
    schema: Schema, connection: psycopg.Connection[Any], client: Client, rows: Any
) -> None:
    with psycopg.connect(schema.dsn, row_factory=rows) as caller:
        started = client.start(caller, saga, {"number": 1}, key="a")
        assert client.status(caller, started.id).key == "a"
        assert client.find(caller, "order", "nothing") is None


@pytest.mark.parametrize(
    "given", [Order(number=1), {"number": 1}, {"number": "1"}, Order(number=1, at=None)]
)
@pytest.mark.parametrize("by", [saga, "order"])
def test_inputs_of_every_form(
    connection: psycopg.Connection[Any], client: Client, given: Any, by: Any
) -> None:
    if by == "order" and isinstance(given, dict) and given["number"] == "1":
        with pytest.raises(InputError, match="number"):
            client.start(connection, by, given)
        return
    started = client.start(connection, by, given)
    assert started.key == str(started.id)


def test_python_and_sql_start_the_same_saga(
    connection: psycopg.Connection[Any], client: Client
) -> None:
    row = connection.execute("select start('order', '{\"number\": 1}', 'a')").fetchone()
    assert row is not None
    started = client.start(connection, saga, Order(number=1), key="a")
    assert (started.id, started.created) == (row[0], False)
    by_name = client.start(connection, "order", {"number": 1}, key="a")
    assert by_name.id == row[0]


def test_an_input_by_name_is_the_same_as_by_saga(
    connection: psycopg.Connection[Any], client: Client
) -> None:
    first = client.start(connection, saga, Order(number=1), key="a")
    assert client.start(connection, "order", Order(number=1), key="a").id == first.id


class Aliased(BaseModel):
    """An input whose fields have other names in JSON, and one that is computed."""

    model_config = ConfigDict(extra="forbid")

    order_number: int = Field(alias="orderNumber")

    @computed_field  # type: ignore[prop-decorator]  # mypy knows no decorated properties
    @property
    def doubled(self) -> int:
        return 2 * self.order_number


def test_an_input_survives_its_own_json(
    schema: Schema, connection: psycopg.Connection[Any], client: Client
) -> None:
    aliased = Saga("aliased", input=Aliased)
    aliased.step(name="nothing", nothing_to_undo="it does nothing")(lambda cmd: None)
    asyncio.run(Bench(schema).register(aliased))
    started = client.start(connection, aliased, Aliased(orderNumber=7), key="a")
    (stored,) = connection.execute("select input from instance where id = %s", (started.id,))
    assert stored == ({"orderNumber": 7},)
    assert not client.start(connection, aliased, {"orderNumber": 7}, key="a").created
    assert Aliased.model_validate(stored[0]).doubled == 14


def test_a_key_with_another_input_is_refused(
    connection: psycopg.Connection[Any], client: Client
) -> None:
    client.start(connection, saga, Order(number=1), key="a")
    with pytest.raises(KeyConflictError, match='"a" exists with another input'):
        client.start(connection, saga, Order(number=2), key="a")
    assert count(connection, "instance") == 1


@pytest.mark.parametrize(
    ("given", "key", "says"),
    [
        ({}, "a", "number: Field required"),
        ({"number": "many"}, "a", "got 'many'"),
        (Order(number=1, comment="a\x00b"), "a", "NUL"),
        (Order(number=1, comment="\ud800"), "a", "surrogate"),
        (Order(number=1), "a\x00", "key"),
        (Order(number=1), "\ud800", "key"),
        (Order(number=1), "", "key is empty"),
        (Order(number=1), "k" * 513, "513 characters"),
        (Order(number=1, comment="x" * 300_000), "a", "the limit is 262144"),
    ],
)
def test_an_input_that_cannot_be_is_refused(
    connection: psycopg.Connection[Any], client: Client, given: Any, key: str, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        client.start(connection, saga, given, key=key)
    assert count(connection, "instance") == 0


def test_what_is_nested_too_deep_is_said_in_words(
    connection: psycopg.Connection[Any], client: Client
) -> None:
    deep: list[Any] = []
    for _ in range(300):
        deep = [deep]
    for give in (
        lambda: client.start(connection, "order", {"number": 1, "more": deep}),
        lambda: client.signal(connection, uuid.uuid4(), "approved", deep),
    ):
        with pytest.raises(InputError, match="nested too deep, in more than 254 levels"):
            give()


def test_a_backslash_and_what_looks_like_a_nul_are_text(
    connection: psycopg.Connection[Any], client: Client
) -> None:
    comment = "\\u0000 \\x00 \\"
    started = client.start(connection, saga, Order(number=1, comment=comment))
    row = connection.execute("select input ->> 'comment' from instance").fetchone()
    assert row == (comment,)
    assert started.created


def test_unknown_types_and_versions(connection: psycopg.Connection[Any], client: Client) -> None:
    with pytest.raises(UnknownTypeError, match='"nothing"'):
        client.start(connection, "nothing", {})
    with pytest.raises(UnknownTypeError, match="version 2"):
        client.start(connection, Saga("order", input=Order, version=2), {"number": 1})


def test_many_are_all_or_none(connection: psycopg.Connection[Any], client: Client) -> None:
    good = [(f"k{n}", Order(number=n)) for n in range(50)]
    with pytest.raises(KeyConflictError):
        client.start_many(connection, saga, [*good, ("k7", Order(number=8))])
    assert count(connection, "instance") == 0
    started = client.start_many(connection, saga, good)
    assert [s.key for s in started] == [f"k{n}" for n in range(50)]
    assert client.start_many(connection, saga, []) == []
    again = client.start_many(connection, saga, [*good, ("k50", Order(number=50))])
    assert [s.created for s in again] == [False] * 50 + [True]


def test_a_start_for_later(connection: psycopg.Connection[Any], client: Client) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    started = client.start(connection, saga, Order(number=1), due_at=later)
    row = connection.execute("select due_at from outbox where id = %s", (started.id,)).fetchone()
    assert row == (later,)


def test_waiting_has_an_end(connection: psycopg.Connection[Any], client: Client) -> None:
    started = client.start(connection, saga, Order(number=1))
    with pytest.raises(TimeoutError, match=f"saga {started.id} is still CREATED after 0.05 s"):
        client.wait(connection, started.id, timeout=0.05)
    with pytest.raises(NotFoundError):
        client.wait(connection, uuid.uuid4(), timeout=0.05)


async def test_waiting_gives_what_became_of_it(schema: Schema, client: Client) -> None:
    bench = Bench(schema)
    async with bench.worker(saga), bench.connection() as connection:
        started = await client.start(connection, saga, Order(number=7))
        status = await client.wait(connection, started.id)
    assert (status.status, status.output, status.is_settled) == ("COMPLETED", 7, True)
    assert status.ended_at is not None

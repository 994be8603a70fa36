"""The ledger keeps its promises in the database, whoever writes."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from outbox import Command, Rejected
from steps import ledger
from steps.ledger import Entry
from steps.model import Payment
from tests.waiting import wait_until_async

pytestmark = pytest.mark.anyio

Connection = psycopg.AsyncConnection[Any]


@pytest.fixture
async def connection(postgres_dsn: str) -> AsyncIterator[Connection]:
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as opened:
        yield opened


@pytest.fixture
async def schema(connection: Connection) -> AsyncIterator[str]:
    name = f'Ledger "{uuid.uuid4().hex[:12]}"'
    await ledger.install(connection, name)
    yield name
    await connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))


async def debit(connection: Connection, schema: str, saga_id: uuid.UUID, **changes: Any) -> Entry:
    plain: dict[str, Any] = {
        "idempotency_key": f"{saga_id}/debit",
        "merchant": "bakery",
        "amount_minor": 1200,
        "currency": "eur",
    }
    posted = await ledger.post_debit(connection, schema, saga_id=saga_id, **(plain | changes))
    found = [e for e in await ledger.entries(connection, schema) if e.id == posted.entry]
    return found[0]


async def reverse(connection: Connection, schema: str, saga_id: uuid.UUID) -> Entry | None:
    return await ledger.post_reversal(
        connection, schema, saga_id=saga_id, idempotency_key=f"{saga_id}/credit"
    )


async def test_a_debit_is_posted_once_for_its_key(connection: Connection, schema: str) -> None:
    saga_id = uuid.uuid4()
    first = await debit(connection, schema, saga_id)
    assert (first.direction, first.amount_minor, first.saga_id) == ("debit", 1200, saga_id)
    assert await debit(connection, schema, saga_id) == first
    assert await ledger.entries(connection, schema) == [first]


@pytest.mark.parametrize(
    "changes", [{"amount_minor": 1}, {"currency": "usd"}, {"merchant": "books"}]
)
async def test_a_key_for_another_entry_is_an_error_and_no_rejection(
    connection: Connection, schema: str, changes: dict[str, Any]
) -> None:
    saga_id = uuid.uuid4()
    await debit(connection, schema, saga_id)
    with pytest.raises(psycopg.DatabaseError, match="was used for another entry") as refused:
        await debit(connection, schema, saga_id, **changes)
    assert refused.value.sqlstate == "LD002"


async def test_a_saga_is_debited_once_whatever_the_key(connection: Connection, schema: str) -> None:
    saga_id = uuid.uuid4()
    await debit(connection, schema, saga_id)
    with pytest.raises(psycopg.errors.UniqueViolation, match="one_debit_and_one_credit_a_saga"):
        await debit(connection, schema, saga_id, idempotency_key="another")


async def test_a_key_posted_by_two_at_once_is_posted_once(
    postgres_dsn: str, connection: Connection, schema: str
) -> None:
    saga_id = uuid.uuid4()
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as other:
        first = await debit(other, schema, saga_id)
        waiting = asyncio.create_task(debit(connection, schema, saga_id))
        async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as observer:

            async def is_waiting() -> bool:
                found = await observer.execute(
                    "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %s",
                    [connection.info.backend_pid],
                )
                row = await found.fetchone()
                return row is not None and bool(row[0])

            await wait_until_async(is_waiting)
        await other.commit()
        assert await waiting == first
    assert await ledger.entries(connection, schema) == [first]


async def test_a_closed_merchant_is_a_rejection_unless_the_debit_is_there_already(
    connection: Connection, schema: str
) -> None:
    before, after = uuid.uuid4(), uuid.uuid4()
    first = await debit(connection, schema, before)
    await ledger.close_merchant(connection, schema, "bakery", "moved away")
    await ledger.close_merchant(connection, schema, "bakery", "closed again")
    with pytest.raises(Rejected, match="merchant bakery is closed: moved away") as rejected:
        await debit(connection, schema, after)
    assert rejected.value.code == "merchant_closed"
    assert await debit(connection, schema, before) == first


async def test_a_reversal_is_a_credit_that_refers_to_the_debit_and_is_posted_once(
    connection: Connection, schema: str
) -> None:
    saga_id = uuid.uuid4()
    taken = await debit(connection, schema, saga_id)
    given = await reverse(connection, schema, saga_id)
    assert given is not None
    assert (given.direction, given.reverses, given.amount_minor) == ("credit", taken.id, 1200)
    again = await ledger.post_reversal(
        connection, schema, saga_id=saga_id, idempotency_key="another key"
    )
    assert again == given
    assert await ledger.entries(connection, schema) == [taken, given]


async def test_without_a_debit_there_is_nothing_to_reverse(
    connection: Connection, schema: str
) -> None:
    assert await reverse(connection, schema, uuid.uuid4()) is None
    assert await ledger.entries(connection, schema) == []


async def test_a_reversal_under_the_key_of_another_entry_is_an_error(
    connection: Connection, schema: str
) -> None:
    one, other = uuid.uuid4(), uuid.uuid4()
    await debit(connection, schema, one)
    await debit(connection, schema, other)
    with pytest.raises(psycopg.DatabaseError) as refused:
        await ledger.post_reversal(
            connection, schema, saga_id=one, idempotency_key=f"{other}/debit"
        )
    assert refused.value.sqlstate == "LD002"


async def test_what_a_transaction_posted_goes_with_it(connection: Connection, schema: str) -> None:
    async with connection.transaction(force_rollback=True):
        await debit(connection, schema, uuid.uuid4())
    assert await ledger.entries(connection, schema) == []


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("amount_minor = 0", "amount_is_positive"),
        ("amount_minor = amount_minor + 1", "a_reversal_mirrors_its_debit"),
        ("currency = 'EUR'", "currency_is_iso_4217"),
        ("direction = 'both', reverses = NULL", "direction_is_debit_or_credit"),
        ("direction = 'debit'", "a_credit_reverses_a_debit"),
        ("reverses = NULL", "a_credit_reverses_a_debit"),
        ("merchant = ''", "merchant_is_named"),
    ],
)
async def test_a_wrong_row_cannot_commit(
    connection: Connection, schema: str, change: str, constraint: str
) -> None:
    saga_id = uuid.uuid4()
    await debit(connection, schema, saga_id)
    await reverse(connection, schema, saga_id)
    statement = sql.SQL("UPDATE {} SET {} WHERE direction = 'credit'").format(
        sql.Identifier(schema, "entry"),
        sql.SQL(change),
    )
    with pytest.raises(psycopg.errors.IntegrityError) as refused:
        await connection.execute(statement)
    assert refused.value.diag.constraint_name == constraint


async def test_ten_may_install_at_once_and_again(postgres_dsn: str) -> None:
    name = f"ledger_{uuid.uuid4().hex[:12]}"

    async def install() -> None:
        async with await psycopg.AsyncConnection.connect(postgres_dsn) as opened:
            await ledger.install(opened, name)

    await asyncio.gather(*(install() for _ in range(10)))
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as opened:
        posted = await debit(opened, name, uuid.uuid4())
        await ledger.install(opened, name)
        assert await ledger.entries(opened, name) == [posted]
        await opened.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))


async def test_installing_leaves_the_connections_search_path_alone(
    postgres_dsn: str, schema: str
) -> None:
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as opened:
        await opened.execute("SET search_path = pg_catalog, pg_temp")
        await ledger.install(opened, schema)
        row = await (await opened.execute("SHOW search_path")).fetchone()
    assert row == ("pg_catalog, pg_temp",)


async def test_the_functions_find_their_tables_whatever_the_search_path(
    connection: Connection, schema: str
) -> None:
    await connection.execute("SET search_path = pg_catalog")
    await debit(connection, schema, uuid.uuid4())
    assert len(await ledger.entries(connection, schema)) == 1


def command(number: int, merchant: str = "bakery", **changes: Any) -> Command[Payment]:
    plain: dict[str, Any] = {
        "amount": 1200,
        "currency": "eur",
        "merchant": merchant,
        "customer": "cus_1",
        "payment_method": "pm_card_visa",
    }
    return Command(
        saga_id=uuid.UUID(int=number), type="payment", version=1, key=f"order-{number}",
        step="update_ledger", kind="action", input=Payment(**(plain | changes)), attempt=1,
    )  # fmt: skip


async def test_many_debits_are_posted_at_once_each_with_its_own_end(
    connection: Connection, schema: str
) -> None:
    known = await ledger.post_debits(connection, schema, [command(2)])
    await ledger.close_merchant(connection, schema, "closed", "moved away")
    answers = await ledger.post_debits(
        connection, schema, [command(3), command(1, "closed"), command(2), command(4)]
    )
    refused = answers[1]
    assert isinstance(refused, Rejected)
    assert (refused.code, str(refused)) == (
        "merchant_closed",
        "the account of merchant closed is closed: moved away",
    )
    assert answers[2] == known[0], "it was posted before"
    posted = {entry.id: entry.saga_id.int for entry in await ledger.entries(connection, schema)}
    numbers = [answer.entry for answer in answers if isinstance(answer, ledger.Posted)]
    assert [posted[number] for number in numbers] == [3, 2, 4]
    assert len(posted) == 3


async def test_one_clash_among_many_debits_posts_none(connection: Connection, schema: str) -> None:
    await ledger.post_debits(connection, schema, [command(1)])
    with pytest.raises(psycopg.DatabaseError, match="was used for another entry") as clash:
        await ledger.post_debits(connection, schema, [command(2), command(1, amount=7)])
    assert clash.value.sqlstate == "LD002"
    assert len(await ledger.entries(connection, schema)) == 1

"""Sagas to be run: started as a user would, or put into the tables where millions are needed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from typing import Any

from outbox import Client, Saga
from steps.model import Payment
from tests.bench.sagas import CLOSED_MERCHANT
from tests.bench.server import SCHEMA, Connection

BULK = 1_000
"""Sagas a statement."""
FAILING = 10
"""One of so many fails, where some are to fail."""

_numbers = count(1)


def payments(number: int, *, failing: bool = False) -> Iterator[tuple[str, Payment]]:
    """Keys that were not used before, and payments like those of the shipped file.

    Args:
        failing: let one in `FAILING` be refused by the ledger.
    """
    for _ in range(number):
        n = next(_numbers)
        merchant = CLOSED_MERCHANT if failing and n % FAILING == 0 else f"merchant-{n % 50:02}"
        yield (
            f"order-{n:08}",
            Payment(
                amount=100 + n % 90_000,
                currency="eur",
                merchant=merchant,
                customer=f"cus_{n % 1000:04}",
                payment_method="pm_card_visa",
                email=f"customer-{n % 1000:04}@example.com",
            ),
        )


def start(connection: Connection, number: int, *, saga: Saga[Any], failing: bool = False) -> None:
    """Starts sagas in bulk, through the client."""
    client = Client(SCHEMA)
    left = payments(number, failing=failing)
    while batch := list(islice(left, BULK)):
        client.start_many(connection, saga, batch)


def insert_waiting(connection: Connection, number: int) -> None:
    """Puts payments that wait for their first claim straight into the tables."""
    for size in _chunks(number):
        connection.execute(_WAITING, [size])


def insert_finished(connection: Connection, number: int) -> None:
    """Puts completed payments, their history and their ledger entries straight into the tables."""
    for size in _chunks(number):
        connection.execute(_FINISHED, [size])


def insert_refused(connection: Connection, number: int) -> None:
    """Puts payments that the provider refused straight into the tables."""
    for size in _chunks(number):
        connection.execute(_REFUSED, [size])


def settle(connection: Connection) -> None:
    """What autovacuum would have done by the time that so much is in the tables."""
    for table in ("instance", "outbox", "transition", "failure", "ledger.entry"):
        connection.execute(f"vacuum (analyze) {table}".encode())


def _chunks(number: int) -> Iterator[int]:
    for done in range(0, number, _CHUNK):
        yield min(_CHUNK, number - done)


_CHUNK = 100_000
_WAITING = b"""
with born as (
    insert into instance (id, type, version, key, input, created_at)
    select i.id, 'payment', 1, 'deep-' || i.id, jsonb_build_object(
        'amount', 100 + g %% 90000, 'currency', 'eur', 'merchant', 'merchant-' || g %% 50,
        'customer', 'cus_' || g %% 1000, 'payment_method', 'pm_card_visa',
        'email', 'customer-' || g %% 1000 || '@example.com'), clock()
    from (select new_id() as id, g from generate_series(1, %s) as g) as i
    returning id, created_at)
insert into outbox (id, type, version, status, state, step, due_at, moved_at)
select id, 'payment', 1, 'CREATED', 'CREATED', 'create_intent', created_at, created_at from born
"""

_FINISHED = b"""
with born as (
    insert into instance (id, type, version, key, input, status, state, output, created_at,
        ended_at)
    select i.id, 'payment', 1, 'done-' || i.id, jsonb_build_object(
        'amount', 100 + g %% 90000, 'currency', 'eur', 'merchant', 'merchant-' || g %% 50,
        'customer', 'cus_' || g %% 1000, 'payment_method', 'pm_card_visa',
        'email', 'customer-' || g %% 1000 || '@example.com'), 'COMPLETED', 'COMPLETED',
        json_build_object('message_id', '<' || i.id || '@payments.example>'), clock(), clock()
    from (select new_id() as id, g from generate_series(1, %s) as g) as i
    returning id, key, input),
passed as (
    insert into transition (saga_id, seq, ordinal, kind, step, attempt, outcome, from_status,
        to_status, result, fence, worker, took, at)
    select b.id, s.seq, s.seq, 'action', s.step, 1, 'done', 'EXECUTING',
        case s.seq when 4 then 'COMPLETED' else 'EXECUTING' end,
        json_build_object('id', 'pi_' || b.id, 'status', 'requires_capture',
            'amount', b.input -> 'amount', 'currency', 'eur'),
        s.seq, '00000000-0000-7000-8000-000000000000', 0.001, clock()
    from born b
    cross join (values (1, 'create_intent'), (2, 'authorize'), (3, 'update_ledger'),
        (4, 'send_confirmation')) as s(seq, step))
insert into ledger.entry (idempotency_key, saga_id, merchant, amount_minor, currency, direction)
select 'payment/' || key || '/update_ledger', id, input ->> 'merchant',
    (input ->> 'amount')::bigint, 'eur', 'debit'
from born
"""

_REFUSED = b"""
with born as (
    insert into instance (id, type, version, key, input, status, state, error, created_at, ended_at)
    select i.id, 'payment', 1, 'refused-' || i.id, jsonb_build_object(
        'amount', 100 + g %% 90000, 'currency', 'eur', 'merchant', 'merchant-' || g %% 50,
        'customer', 'cus_' || g %% 1000, 'payment_method', 'pm_card_visa',
        'email', 'customer-' || g %% 1000 || '@example.com'), 'FAILED', 'FAILED',
        '{"type": "Rejected", "message": "the account is closed"}', clock(), clock()
    from (select new_id() as id, g from generate_series(1, %s) as g) as i
    returning id, ended_at, error),
passed as (
    insert into transition (saga_id, seq, ordinal, kind, step, attempt, outcome, from_status,
        to_status, error, fence, worker, took, at)
    select b.id, 1, 1, 'action', 'create_intent', 1, 'rejected', 'EXECUTING', 'FAILED', b.error, 1,
        '00000000-0000-7000-8000-000000000000', 0.001, b.ended_at
    from born b)
insert into failure (saga_id, type, step, error, state, ended_at)
select id, 'payment', 'create_intent', 'Rejected', 'FAILED', ended_at from born
"""

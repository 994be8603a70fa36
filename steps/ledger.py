"""The merchant's ledger, in tables of its own beside the engine's."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib import resources
from typing import Any, Literal, LiteralString
from uuid import UUID

import orjson
import psycopg
from psycopg import sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb
from pydantic import BaseModel

from outbox import Command, Rejected
from steps.model import Payment

MERCHANT_CLOSED = "LD001"


class Entry(BaseModel):
    """One line of the ledger."""

    id: int
    idempotency_key: str
    saga_id: UUID
    merchant: str
    amount_minor: int
    currency: str
    direction: Literal["debit", "credit"]
    reverses: int | None


class Posted(BaseModel):
    """What a saga keeps of an entry: its number."""

    entry: int


async def install(connection: psycopg.AsyncConnection[Any], schema: str) -> None:
    """Create the ledger's schema, tables and functions; safe to repeat, and for several at once.

    Args:
        connection: where; the change is made in a transaction of its own, or a savepoint.
        schema: the schema to use, created when it is missing.

    Raises:
        psycopg.errors.InsufficientPrivilege: the role may not create them.
    """
    definition = resources.files("steps").joinpath("ledger.sql").read_bytes()
    async with connection.transaction():
        await connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('ledger/' || %s, 0))", [schema]
        )
        await connection.execute(
            sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema))
        )
        # What the connection used before, for the case that its transaction goes on.
        row = await (
            await connection.execute("SELECT current_setting('search_path') AS path")
        ).fetchone()
        await _set_search_path(connection, sql.Identifier(schema).as_string() + ", pg_temp")
        await connection.execute(definition)
        if row is not None:
            await _set_search_path(connection, row["path"] if isinstance(row, dict) else row[0])


async def post_debit(
    tx: psycopg.AsyncConnection[Any],
    schema: str,
    *,
    idempotency_key: str,
    saga_id: UUID,
    merchant: str,
    amount_minor: int,
    currency: str,
) -> Posted:
    """Post what a payment costs the merchant's account; a key posts once.

    Args:
        tx: the transaction that is to hold the entry.
        schema: the ledger's schema.
        idempotency_key: the same in every attempt.
        saga_id: the payment's saga, which has one debit at most.
        merchant: whose account.
        amount_minor: in the smallest unit of the currency.
        currency: ISO 4217 code in small letters.

    Returns:
        The entry's number, be it new or there already.

    Raises:
        Rejected: the merchant's account is closed.
        psycopg.DatabaseError: the key stands for another entry, or the saga has another debit.
    """
    statement = _call("SELECT id FROM {}(%s, %s, %s, %s, %s)", schema, "post_debit")
    try:
        cursor = await tx.execute(
            statement, [idempotency_key, saga_id, merchant, amount_minor, currency]
        )
    except psycopg.DatabaseError as error:
        if error.sqlstate == MERCHANT_CLOSED:
            message = error.diag.message_primary or "the merchant's account is closed"
            raise Rejected(message, code="merchant_closed") from error
        raise
    row = await cursor.fetchone()
    if row is None:
        raise LookupError(f"{schema}.post_debit returned no entry; install the ledger again")
    return Posted(entry=row[0])


async def post_debits(
    tx: psycopg.AsyncConnection[Any], schema: str, commands: Sequence[Command[Payment]]
) -> list[Posted | Rejected]:
    """Post the debits of many payments by one statement; a key posts once.

    Args:
        tx: the transaction that is to hold the entries.
        schema: the ledger's schema.
        commands: the payments.

    Returns:
        For each payment, in their order, its entry, be it new or there already; or that the
        merchant's account is closed.

    Raises:
        psycopg.DatabaseError: a key stands for another entry, or a saga has another debit.
    """
    statement = _call("SELECT * FROM {}(%s)", schema, "post_debits")
    debits = [
        {
            "idempotency_key": cmd.idempotency_key,
            "saga_id": cmd.saga_id,
            "merchant": cmd.input.merchant,
            "amount_minor": cmd.input.amount,
            "currency": cmd.input.currency,
        }
        for cmd in commands
    ]
    cursor = await tx.execute(statement, [Jsonb(debits, orjson.dumps)], binary=True)
    return [
        Posted(entry=entry) if refusal is None else Rejected(refusal, code="merchant_closed")
        for entry, refusal in await cursor.fetchall()
    ]


async def post_reversal(
    tx: psycopg.AsyncConnection[Any], schema: str, *, idempotency_key: str, saga_id: UUID
) -> Entry | None:
    """Post the credit that takes back a saga's debit; it is taken back once.

    Args:
        tx: the transaction that is to hold the entry.
        schema: the ledger's schema.
        idempotency_key: the same in every attempt.
        saga_id: the payment's saga.

    Returns:
        The credit, be it new or there already; ``None`` when there is no debit to take back.

    Raises:
        psycopg.DatabaseError: the key stands for another entry.
    """
    statement = _call("SELECT * FROM {}(%s, %s)", schema, "post_reversal")
    async with tx.cursor(row_factory=class_row(Entry)) as cursor:
        await cursor.execute(statement, [idempotency_key, saga_id])
        return await cursor.fetchone()


async def entries(connection: psycopg.AsyncConnection[Any], schema: str) -> list[Entry]:
    """Read the whole ledger, in the order of posting.

    Args:
        connection: where.
        schema: the ledger's schema.

    Returns:
        Every entry.
    """
    statement = sql.SQL("SELECT * FROM {} ORDER BY id").format(sql.Identifier(schema, "entry"))
    async with connection.cursor(row_factory=class_row(Entry)) as cursor:
        await cursor.execute(statement)
        return await cursor.fetchall()


async def close_merchant(
    connection: psycopg.AsyncConnection[Any], schema: str, merchant: str, reason: str
) -> None:
    """Refuse further debits of a merchant; one that is closed already keeps its reason.

    Args:
        connection: where; the caller commits.
        schema: the ledger's schema.
        merchant: whose account.
        reason: said in the refusal.
    """
    statement = sql.SQL(
        "INSERT INTO {} (merchant, reason) VALUES (%s, %s) ON CONFLICT DO NOTHING"
    ).format(sql.Identifier(schema, "closed_merchant"))
    await connection.execute(statement, [merchant, reason])


@functools.cache
def _call(template: LiteralString, schema: str, function: str) -> bytes:
    """The statement that calls one of the ledger's functions."""
    return sql.SQL(template).format(sql.Identifier(schema, function)).as_bytes()


async def _set_search_path(connection: psycopg.AsyncConnection[Any], path: str) -> None:
    await connection.execute("SELECT set_config('search_path', %s, true)", [path])

"""The shop's own tables beside the engine's: invoices, the picking list, accounts."""

from __future__ import annotations

from importlib import resources
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql

from outbox import Rejected


class Shop:
    """The tables in one schema.

    Args:
        schema: its name.
    """

    def __init__(self, schema: str) -> None:
        self._schema = schema

    async def install(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Create schema, tables and functions; safe to repeat, and for several at once.

        Args:
            connection: where; the change is made in a transaction of its own.

        Raises:
            psycopg.errors.InsufficientPrivilege: the role may not create them.
        """
        definition = resources.files("steps").joinpath("shop.sql").read_bytes()
        async with connection.transaction():
            await connection.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended('shop/' || %s, 0))", [self._schema]
            )
            await connection.execute(
                sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(self._schema))
            )
            path = sql.Identifier(self._schema).as_string() + ", pg_temp"
            await connection.execute("SELECT set_config('search_path', %s, true)", [path])
            await connection.execute(definition)

    async def issue_invoice(
        self,
        tx: psycopg.AsyncConnection[Any],
        saga_id: UUID,
        *,
        customer: str,
        amount_minor: int,
        currency: str,
    ) -> int:
        """Write a saga's invoice, numbered without gaps.

        Args:
            tx: the transaction that is to hold it; other invoices wait for its end.
            saga_id: the order's saga, which has one invoice at most.
            customer: who owes.
            amount_minor: in the smallest unit of the currency.
            currency: ISO 4217 code in small letters.

        Returns:
            Its number.
        """
        statement = sql.SQL("SELECT {}(%s, %s, %s, %s)").format(self._name("issue_invoice"))
        return int(await self._value(tx, statement, saga_id, customer, amount_minor, currency))

    async def credit_invoice(self, tx: psycopg.AsyncConnection[Any], saga_id: UUID) -> int | None:
        """Write the credit note that takes back a saga's invoice: a number once given stays given.

        Returns:
            The note's number; ``None`` when there is no invoice.
        """
        statement = sql.SQL("SELECT {}(%s)").format(self._name("credit_invoice"))
        number = await self._value(tx, statement, saga_id)
        return None if number is None else int(number)

    async def list_for_picking(
        self, tx: psycopg.AsyncConnection[Any], saga_id: UUID, shipment: str
    ) -> None:
        """Put an order on the list by which the warehouse hands parcels to the carrier."""
        statement = sql.SQL("INSERT INTO {} (saga_id, shipment) VALUES (%s, %s)")
        await tx.execute(statement.format(self._name("picking_list")), [saga_id, shipment])

    async def open_account(
        self, tx: psycopg.AsyncConnection[Any], saga_id: UUID, *, name: str, customer: str
    ) -> None:
        """Open an account.

        Raises:
            Rejected: another open account has this name.
        """
        statement = sql.SQL(
            "INSERT INTO {} (saga_id, name, customer) VALUES (%s, %s, %s)"
            " ON CONFLICT (name) WHERE closed_at IS NULL DO NOTHING"
        ).format(self._name("account"))
        cursor = await tx.execute(statement, [saga_id, name, customer])
        if cursor.rowcount == 0:
            raise Rejected(f"the account name {name!r} is taken", code="name_taken")

    async def close_account(self, tx: psycopg.AsyncConnection[Any], saga_id: UUID) -> None:
        """Close the account that a saga opened; closed already, or never opened, is as good."""
        statement = sql.SQL(
            "UPDATE {} SET closed_at = clock_timestamp() WHERE saga_id = %s AND closed_at IS NULL"
        ).format(self._name("account"))
        await tx.execute(statement, [saga_id])

    async def rows(
        self, connection: psycopg.AsyncConnection[Any], table: str
    ) -> list[dict[str, Any]]:
        """Everything in one of the tables, for tests and the demo."""
        statement = sql.SQL("SELECT * FROM {}").format(self._name(table))
        async with connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
            return await (await cursor.execute(statement)).fetchall()

    def _name(self, what: str) -> sql.Identifier:
        return sql.Identifier(self._schema, what)

    async def _value(
        self, tx: psycopg.AsyncConnection[Any], statement: sql.Composed, *parameters: object
    ) -> Any:
        row = await (await tx.execute(statement, parameters)).fetchone()
        if row is None:
            raise LookupError(f"{self._schema} answered nothing; install it again")
        return row[0]

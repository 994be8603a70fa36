"""The world of sagas of random shapes, as worker processes share it: their deeds are rows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from outbox import Command
from tests.engine.any_shape import Deed, Parcel, World

DEEDS = (
    "create table deed (n bigint generated always as identity, saga_id uuid, step text, "
    "element integer, undone boolean, key text)"
)


class KeptWorld(World):
    """A provider that writes down what it does, at once, and does nothing for those who have asked
    too late.

    Args:
        is_calm: nothing goes wrong in its handlers.
    """

    def __init__(self, seed: int, schema: str, mischief: float, *, is_calm: bool = False) -> None:
        super().__init__(seed, schema, mischief)
        self.is_calm = is_calm
        self.pool: AsyncConnectionPool[psycopg.AsyncConnection[Any]] | None = None
        table = sql.Identifier(schema, "deed")
        self._write = sql.SQL(
            "insert into {} (saga_id, step, element, undone, key) "
            "select %s, %s, %s, %s, %s where clock_timestamp() < %s"
        ).format(table)
        self._read = sql.SQL(
            "select undone from {} where saga_id = %s and step = %s "
            "and element is not distinct from %s order by n desc limit 1"
        ).format(table)
        self._read_all = sql.SQL(
            "select saga_id, step, element, undone, key from {} order by n"
        ).format(table)

    async def note(self, cmd: Command[Parcel], deed: Deed, until: float) -> None:
        assert self.pool is not None
        late = datetime.fromtimestamp(until, UTC)
        async with self.pool.connection() as connection:
            cursor = await connection.execute(
                self._write,
                (cmd.saga_id, cmd.step, cmd.element, deed.undone, deed.key, late),
            )
        if not cursor.rowcount:
            raise RuntimeError("the provider was asked too late")

    async def is_done(self, cmd: Command[Parcel]) -> bool:
        assert self.pool is not None
        async with self.pool.connection() as connection:
            cursor = await connection.execute(self._read, (cmd.saga_id, cmd.step, cmd.element))
            row = await cursor.fetchone()
        return row is not None and not row[0]

    async def look(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Reads all that was done into ``deeds``."""
        self.deeds.clear()
        for saga_id, step, element, undone, key in await (
            await connection.execute(self._read_all)
        ).fetchall():
            self.deeds[saga_id, step, element].append(Deed(undone, key))

"""Acting for a person: whom the database notes down as the actor of what follows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from psycopg import AsyncConnection


@asynccontextmanager
async def acting_as(connection: AsyncConnection[Any], name: str) -> AsyncIterator[None]:
    """A transaction whose acts, signals and pauses are those of a person, "``name`` via ``login``"
    (see the SQL function ``actor``). Said for the transaction only, so it leaves nothing behind on
    a pooled connection."""
    async with connection.transaction():
        await connection.execute("select set_config('outbox.actor', %s, true)", (name,))
        yield

"""Reading what came of the sagas, from the engine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import class_row

import outbox
from steps.demo.programs import SCHEMA

SAGAS = sql.SQL("""
    select o.saga_id, o.key, o.status, o.created_at, coalesce(o.ended_at, m.since) as settled_at,
        t.began_at, t.attempts, t.retries
    from {schema}.overview o
    left join {schema}.manual_intervention m using (saga_id)
    left join (
        select saga_id, min(at - took) as began_at,
            count(*) filter (where kind in ('action', 'compensation')) as attempts,
            count(*) filter (where kind in ('action', 'compensation') and attempt > 1
                and before is distinct from 'waiting') as retries
        from (
            select *, lag(outcome) over (partition by saga_id, kind, step order by seq) as before
            from {schema}.timeline) a group by saga_id) t using (saga_id)
    where o.type = %s
""").format(schema=sql.Identifier(SCHEMA))


@dataclass(frozen=True, slots=True)
class SagaFound:
    """A saga: how it ended, when, and after how many attempts; ``settled_at`` is also when it was
    suspended."""

    saga_id: Any
    key: str
    status: str
    created_at: datetime
    settled_at: datetime | None
    began_at: datetime | None
    attempts: int | None
    retries: int | None


async def read_sagas(connection: psycopg.AsyncConnection[Any], saga_type: str) -> list[SagaFound]:
    """Read every saga of a type.

    Args:
        connection: to the demo's database.
        saga_type: which.

    Returns:
        The sagas.
    """
    async with connection.cursor(row_factory=class_row(SagaFound)) as cursor:
        return await (await cursor.execute(SAGAS, [saga_type])).fetchall()


async def read_violations(connection: psycopg.AsyncConnection[Any]) -> list[str]:
    """Read which of the engine's invariants are violated, each in words."""
    violations = await outbox.Operator(SCHEMA).audit(connection)
    return [f"{one.saga_id}: {one.invariant}: {one.detail}" for one in violations]

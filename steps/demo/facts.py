"""Reading what came of the payments: from the engine, the ledger, the provider and the mailbox."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import class_row

import outbox
from steps import ledger
from steps.demo.mailbox import Mail
from steps.demo.programs import LEDGER_SCHEMA, SCHEMA
from steps.demo.verdict import Found, IntentFound
from steps.sandbox.process import SandboxProcess

SAGAS = sql.SQL("""
    select o.saga_id, o.key, o.status, o.created_at, coalesce(o.ended_at, m.since) as settled_at,
        t.began_at, t.attempts, t.retries
    from {schema}.overview o
    left join {schema}.manual_intervention m using (saga_id)
    left join (
        select saga_id, min(at - took) as began_at,
            count(*) filter (where kind in ('action', 'compensation')) as attempts,
            count(*) filter (where kind in ('action', 'compensation') and attempt > 1) as retries
        from {schema}.timeline group by saga_id) t using (saga_id)
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


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the end of the demo is judged by.

    Args:
        sagas: every one.
        found: by the payment's key, or ``saga <id>`` for what belongs to no saga.
        violations: of the engine's invariants, each in words.
    """

    sagas: list[SagaFound]
    found: dict[str, Found]
    violations: list[str]


async def read(dsn: str, sandbox: SandboxProcess, mails: Iterable[Mail]) -> Facts:
    """Read everything, once the workers have ended.

    Args:
        dsn: the demo's database.
        sandbox: the provider.
        mails: what the mail server took.

    Returns:
        The facts.
    """
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        async with connection.cursor(row_factory=class_row(SagaFound)) as cursor:
            sagas = await (await cursor.execute(SAGAS)).fetchall()
        entries = await ledger.entries(connection, LEDGER_SCHEMA)
        violations = await outbox.Operator(SCHEMA).audit(connection)
    keys = {str(saga.saga_id): saga.key for saga in sagas}
    found: defaultdict[str, Found] = defaultdict(Found)

    def of(saga_id: object) -> Found:
        return found[keys.get(str(saga_id), f"saga {saga_id}")]

    for saga in sagas:
        of(saga.saga_id).status = saga.status
    for effect in sandbox.effects():
        effects = of(effect["saga_id"]).effects
        effects[effect["operation"]] = effects.get(effect["operation"], 0) + 1
    for intent in sandbox.intents():
        seen = IntentFound(intent["status"], intent["amount"], intent["currency"])
        of(intent["metadata"].get("saga_id")).intents.append(seen)
    for entry in entries:
        of(entry.saga_id).entries.append(entry)
    for mail in mails:
        of(mail.saga_id).mails[mail.message_id] = mail.recipient
    said = [
        f"{keys.get(str(violation.saga_id), violation.saga_id)}: {violation.invariant}: "
        f"{violation.detail}"
        for violation in violations
    ]
    return Facts(sagas, dict(found), said)

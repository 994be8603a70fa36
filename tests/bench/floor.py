"""The floor: what committed SQL can do without an engine, writing exactly an engine's rows.

Four-step payments that were started before are brought to their end in batches of 200: one commit
for the claim and one for each of the four advances. The batches are dealt out beforehand, so
nobody searches, waits for a lock, checks a fence, or asks what comes next; there is one prepared
statement a commit and one round trip, its answer is fetched, and its arguments are made before the
clock starts. What is left are the rows of `outbox`, `transition`, `instance` and the ledger.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from uuid import UUID, uuid4

import psycopg

from tests.bench import load
from tests.bench.sagas import LEDGER_FORMS
from tests.bench.server import Connection, Database, Server
from tests.bench.usage import Log
from tests.bench.verdict import require_all_completed

BATCH = 200
CONNECTIONS = (1, 2, 4)

_CLAIM = b"""
with taken as (
    update outbox set worker = $1, fence = fence + 1, status = 'EXECUTING',
        deadline = clock_timestamp() + '35 s'
    where id = any($2) returning id, fence)
select t.id, t.fence, i.key, i.input from taken t join instance i on i.id = t.id
"""

_STEP = b"""
with given as (select * from unnest($2::uuid[], $3::text[]) as g(id, result)),
recorded as (
    insert into transition (saga_id, seq, ordinal, kind, step, attempt, outcome, from_status,
        to_status, result, fence, worker, took, at)
    select g.id, $4, $4, 'action', $5, 1, 'done', 'EXECUTING', 'EXECUTING', g.result::json,
        $4, $1, 0.001, now()
    from given g)
update outbox o
set state = $6, seq = $4, fence = fence + 1, step = $7, ordinal = $4 + 1, moved_at = now(),
    deadline = now() + '35 s'
from given g where o.id = g.id returning o.id, o.fence, o.step
"""

# The entry's number is the step's result.
_LEDGER_STEP = b"""
with posted as (
    insert into entry (idempotency_key, saga_id, merchant, amount_minor, currency, direction)
    select 'payment/' || i.key || '/update_ledger', i.id, i.input ->> 'merchant',
        (i.input ->> 'amount')::bigint, i.input ->> 'currency', 'debit'
    from instance i where i.id = any($2)
    returning id, saga_id),
recorded as (
    insert into transition (saga_id, seq, ordinal, kind, step, attempt, outcome, from_status,
        to_status, result, fence, worker, took, at)
    select p.saga_id, $3, $3, 'action', $4, 1, 'done', 'EXECUTING', 'EXECUTING',
        json_build_object('entry', p.id), $3, $1, 0.001, now()
    from posted p)
update outbox o
set state = $5, seq = $3, fence = fence + 1, step = $6, ordinal = $3 + 1, moved_at = now(),
    deadline = now() + '35 s'
where o.id = any($2) returning o.id, o.fence, o.step
"""

_END = b"""
with given as (select * from unnest($2::uuid[], $3::text[]) as g(id, result)),
recorded as (
    insert into transition (saga_id, seq, ordinal, kind, step, attempt, outcome, from_status,
        to_status, result, fence, worker, took, at)
    select g.id, 4, 4, 'action', 'send_confirmation', 1, 'done', 'EXECUTING', 'COMPLETED',
        g.result::json, 4, $1, 0.001, now()
    from given g),
gone as (delete from outbox o where o.id = any($2))
update instance i
set status = 'COMPLETED', state = 'COMPLETED', ended_at = now(), output = g.result::json
from given g where i.id = g.id returning i.id
"""


@dataclass(frozen=True)
class FloorRun:
    """What one run came to; the log in bytes a saga, without full-page images."""

    sagas_per_second: float
    log_bytes_per_saga: float


@dataclass(frozen=True)
class _Batch:
    ids: list[UUID]
    created: list[str]
    authorized: list[str]
    confirmed: list[str]


def run_floor(server: Server, *, sagas: int, connections: int) -> FloorRun:
    """Brings sagas to their end over some connections, each served by a thread.

    Raises:
        WrongResultError: not every saga is COMPLETED with its entry, or the audit found something.
    """
    with server.database() as database:
        with database.connect() as connection:
            load.start(connection, sagas, saga=next(iter(LEDGER_FORMS.values())))
            rows = connection.execute("select id from outbox order by due_at, id").fetchall()
            ids = [row[0] for row in rows]
            log = Log(connection)
            seconds = _drain(database, _batches(ids), connections)
            _, log_bytes = log.bytes_written()
        require_all_completed(database, sagas)
    return FloorRun(sagas / seconds, log_bytes / sagas)


def _drain(database: Database, batches: Sequence[_Batch], connections: int) -> float:
    ready = threading.Barrier(connections + 1)

    def serve(share: Sequence[_Batch]) -> None:
        with _connect(database) as connection:
            ready.wait()
            worker = uuid4()
            for batch in share:
                _advance(connection, worker, batch)

    with ThreadPoolExecutor(connections) as pool:
        done = [pool.submit(serve, batches[n::connections]) for n in range(connections)]
        ready.wait()
        began = time.perf_counter()
        for share in done:
            share.result()
        return time.perf_counter() - began


def _connect(database: Database) -> Connection:
    connection = database.connect(name="bench floor")
    connection.execute("set plan_cache_mode to force_generic_plan")
    return connection


def _advance(connection: Connection, worker: UUID, batch: _Batch) -> None:
    cursor = psycopg.RawCursor(connection)

    def commit(statement: bytes, *arguments: object) -> None:
        rows = cursor.execute(statement, arguments, binary=True).fetchall()
        assert len(rows) == len(batch.ids), "a commit of the floor moved too few sagas"

    commit(_CLAIM, worker, batch.ids)
    first = (1, "create_intent", "PAYMENT_INTENT_CREATED", "authorize")
    second = (2, "authorize", "PAYMENT_AUTHORIZED", "update_ledger")
    third = (3, "update_ledger", "LEDGER_UPDATED", "send_confirmation")
    commit(_STEP, worker, batch.ids, batch.created, *first)
    commit(_STEP, worker, batch.ids, batch.authorized, *second)
    commit(_LEDGER_STEP, worker, batch.ids, *third)
    commit(_END, worker, batch.ids, batch.confirmed)


def _batches(ids: Sequence[UUID]) -> list[_Batch]:
    """The arguments of every commit, the results as large as the sagas' own."""

    def intent(saga: UUID, status: str) -> str:
        name = f"pi_{saga.hex[:24]}"
        return f'{{"id":"{name}","status":"{status}","amount":45678,"currency":"eur"}}'

    return [
        _Batch(
            ids=list(batch),
            created=[intent(saga, "requires_confirmation") for saga in batch],
            authorized=[intent(saga, "requires_capture") for saga in batch],
            confirmed=[f'{{"message_id":"<{s.hex}@payments.example>"}}' for s in batch],
        )
        for batch in (ids[n : n + BATCH] for n in range(0, len(ids), BATCH))
    ]

"""A saga by hand, for queues that know none: a row says how far it is, a job does the next step.

One transaction per step holds the row's update, the ledger's entry and the next job; the queue
acknowledges the job that ran by itself, afterwards. A job that is delivered twice finds that its
step is done, and does nothing. A job carries what its step reads, so that a step is one statement.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import orjson
import psycopg

from steps.model import Payment
from tests.bench.peers.payment import Json, authorize, create_intent, send_confirmation

TABLE = """
create table peer_saga (
    id       uuid primary key,
    input    jsonb not null,
    step     smallint not null default 0,
    status   text not null default 'EXECUTING',
    results  jsonb not null default '{}',
    ended_at timestamptz,
    constraint completed_sagas_did_every_step check ((status = 'COMPLETED') = (step = 4)),
    constraint completed_sagas_have_an_end check ((status = 'COMPLETED') = (ended_at is not null))
) with (fillfactor = 50)
"""

COMPLETED = "select id, ended_at from peer_saga where status = 'COMPLETED'"
RESULTS = "select id, step_name from peer_saga, jsonb_object_keys(results) as step_name"

Fetch = Callable[..., Awaitable[Any]]
"""Executes a statement with the parameters ``$1`` and so on; the first row, or None."""


@dataclass(frozen=True)
class Job:
    """A step that waits for its turn, and what it reads."""

    saga: UUID
    step: int
    reads: Json

    def to_json(self) -> Json:
        """As a queue keeps it."""
        return {"saga": str(self.saga), "step": self.step, "reads": self.reads}

    @classmethod
    def from_json(cls, json: Json) -> Job:
        """As a queue gives it back."""
        return cls(UUID(json["saga"]), json["step"], json["reads"])


def insert(connection: psycopg.Connection[Any], payments: Sequence[Payment]) -> list[Job]:
    """Puts new sagas into the table; their first jobs are for the same transaction."""
    jobs = [Job(uuid4(), 0, payment.model_dump(mode="json")) for payment in payments]
    connection.execute(
        "insert into peer_saga (id, input) "
        "select id, input::jsonb from unnest(%s::uuid[], %s::text[]) as new (id, input)",
        [[job.saga for job in jobs], [_text(job.reads) for job in jobs]],
    )
    return jobs


async def perform(fetch: Fetch, job: Job) -> Job | None:
    """Does a job's step in the transaction of ``fetch``.

    Returns:
        The job to be enqueued in the same transaction; None after the last step, and when the step
        was done already.
    """
    saga = job.saga
    match job.step:
        case 0:
            intent = create_intent(saga, job.reads)
            done = await fetch(_RESULT, saga, 0, "create_intent", _text(intent))
            following = Job(saga, 1, intent)
        case 1:
            authorization = authorize(job.reads)
            done = await fetch(_RESULT, saga, 1, "authorize", _text(authorization))
            following = Job(saga, 2, {})
        case 2:
            done = await fetch(_LEDGER, saga)
            following = Job(saga, 3, {})
        case _:
            await fetch(_END, saga, _text(send_confirmation(saga)))
            return None
    return following if done else None


def _text(json: Json) -> str:
    return orjson.dumps(json).decode()


_RESULT = """
update peer_saga set step = step + 1,
    results = results || jsonb_build_object($3::text, $4::text::jsonb)
where id = $1 and step = $2 returning id
"""
_LEDGER = """
update peer_saga set step = 3, results = results || jsonb_build_object('update_ledger', (
    select jsonb_build_object('entry', entry.id) from ledger.post_debit(
        'payment/' || id || '/update_ledger', id, input ->> 'merchant',
        (input ->> 'amount')::bigint, input ->> 'currency') as entry))
where id = $1 and step = 2 returning id
"""
_END = """
update peer_saga set step = 4, status = 'COMPLETED', ended_at = clock_timestamp(),
    results = results || jsonb_build_object('send_confirmation', $2::text::jsonb)
where id = $1 and step = 3 returning id
"""

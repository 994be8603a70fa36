"""Many sagas that have ended, put into the tables as the engine would have left them."""

from tests.sql.engine import Engine

# n counts back in time, a saga every twenty seconds; the rows are written the oldest first, as they
# would have been.
INSTANCES = """
insert into instance (
    id, type, version, key, input, status, state, output, error, created_at, ended_at)
select (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '7'
        || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid,
    case when n %% 1000 = 7 then 'single' else 'order' end, 1, format('crowd-%%s', n), '{}',
    case when n %% 100 = 3 then 'FAILED' else 'COMPLETED' end,
    case when n %% 100 = 3 then 'FAILED' else 'COMPLETED' end, null,
    case when n %% 100 = 3 then jsonb_build_object(
        'type', case when n %% 1000 = 3 then 'Rare' else 'Refused' end, 'message', 'refused') end,
    at, at + interval '2 seconds'
from generate_series(1, %s) as n
cross join lateral (select clock_timestamp() - n * interval '20 seconds' as at offset 0) as t
order by n desc
"""
TRANSITIONS = """
insert into transition (
    saga_id, at, seq, ordinal, attempt, fence, took, kind, outcome, from_status, to_status, step,
    state, error)
select i.id, i.created_at + s.seq * interval '1 second', s.seq, s.seq, 1, s.seq, s.seq::real / 10,
    'action',
    case when s.seq = 2 and i.status = 'FAILED' then 'rejected' else 'done' end, 'EXECUTING',
    case s.seq when 1 then 'EXECUTING' else i.status end,
    case s.seq when 1 then 'reserve' else 'charge' end, i.state,
    case when s.seq = 2 then i.error end
from instance i cross join generate_series(1, 2) as s(seq)
where i.key like 'crowd-%%' and i.ended_at is not null order by i.id, s.seq
"""
FAILURES = """
insert into failure (saga_id, type, step, error, state, ended_at)
select i.id, i.type, 'charge', i.error ->> 'type', i.state, i.ended_at
from instance i where i.status = 'FAILED' and i.key like 'crowd-%%'
"""


def gather(engine: Engine, count: int) -> None:
    """Adds ``count`` sagas that ended in the past, one every twenty seconds: of a hundred one
    failed, of a thousand one is of type ``single``. The audit would want more of their histories.
    """
    engine.audits_at_end = False
    engine.execute(INSTANCES, count)
    engine.execute(TRANSITIONS)
    engine.execute(FAILURES)
    engine.execute("vacuum (analyze) instance, transition, failure, outbox")

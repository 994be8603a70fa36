-- The sagas that a filter finds, the newest first, one page of them: as rows of overview, without what may be
-- large. The filter knows
--
--   type, step, error   exact; error is the type of a saga's error, or of what its current step met last
--   status              one, or an array of several
--   state               of its domain, or COMPLETED, FAILED, CANCELLED
--   key, key_prefix     the whole key, or its beginning
--   older_than, younger_than   intervals since the start
--
-- step and error are those of living sagas and of such as failed. The next page begins before the last id of
-- this one; where those that fit are rare, saga_page() says where.
create or replace function find_sagas(
    p_filter jsonb default '{}', p_before uuid default null, p_limit integer default 50)
returns table (
    saga_id uuid, type text, version integer, key text, status text, state text, step text, attempts integer,
    age interval, reason text, error jsonb, paused boolean, created_at timestamptz, ended_at timestamptz)
language sql stable security definer set search_path from current
set enable_seqscan to off set enable_hashjoin to off set enable_mergejoin to off set jit to off as $$
    select o.saga_id, o.type, o.version, o.key, o.status, o.state, o.step, o.attempts, o.age, o.reason, o.error,
        o.paused, o.created_at, o.ended_at
    from saga_page(p_filter, p_before, p_limit) as p
    cross join lateral unnest(p.ids) with ordinality as u(id, place)
    cross join lateral (select v.* from overview v where v.saga_id = u.id offset 0) as o
    order by u.place
$$;
comment on function find_sagas is 'Finds sagas, the newest first: select * from saga.find_sagas(''{"type": "payment", "status": "FAILED"}'')';

-- The attempts that ended lately, each with its saga's type. again: it failed, and another one follows. The window is found by the index on the
-- history's time; the sagas that it is about one by one, however many others there are.
create or replace function attempts_since(p_since interval, p_type text default null)
returns table (at timestamptz, saga_id uuid, type text, step text, kind text, outcome text, attempt integer, took real, error jsonb, again boolean)
language sql stable set search_path from current
set enable_seqscan to off set jit to off as $$
    select t.at, t.saga_id, i.type, t.step, t.kind::text, t.outcome::text, t.attempt, t.took, t.error,
        t.error is not null and t.due_at is not null and t.to_status = t.from_status
    from (
        select t.* from transition t
        where t.at > (select clock() - p_since) and t.kind <> 'act'
          and t.outcome in ('done', 'retry', 'rejected', 'in_doubt') offset 0) as t
    cross join lateral (select n.type from instance n where n.id = t.saga_id offset 0) as i
    where p_type is null or i.type = p_type
$$;

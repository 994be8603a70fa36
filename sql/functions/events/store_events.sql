-- Stores what was emitted by those of these commands that this very call of advance() has moved on:
-- an outcome that was applied before has stored its events then. p_events[n]: an array of
-- {"name", "payload"}, in the order of their emission, or null.
create or replace function store_events(
    p_now timestamptz, p_worker uuid, p_commands uuid[], p_fences integer[], p_events json[])
returns void language sql set search_path from current
set plan_cache_mode to force_generic_plan set enable_seqscan to off
set enable_hashjoin to off set enable_mergejoin to off set jit to off as $$
    insert into event (saga_id, seq, ordinal, type, version, step, name, payload, at)
    select t.saga_id, t.seq, t.ordinal, i.type, i.version, t.step, e.told ->> 'name', e.told -> 'payload', p_now
    from unnest(p_commands, p_fences, p_events) as g(command, fence, events)
    cross join lateral (
        select * from transition t
        where t.saga_id = g.command and t.fence = g.fence and t.worker = p_worker and t.line is null
          and t.at = p_now and t.outcome = 'done'
        union all
        select * from transition t
        where t.line = g.command and t.fence = g.fence and t.worker = p_worker
          and t.at = p_now and t.outcome = 'done'
        limit 1) as t
    cross join lateral (select n.type, n.version from instance n where n.id = t.saga_id offset 0) as i
    cross join lateral json_array_elements(g.events) with ordinality as e(told, place)
    where g.events is not null
    order by t.saga_id, t.seq, e.place
$$;

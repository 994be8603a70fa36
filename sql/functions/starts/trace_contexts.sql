-- For each of some sagas where its trace comes from: its parent, if it is a sub-saga, the topmost of its
-- parents (or itself), and the context in which that one was started.
create or replace function trace_contexts(p_sagas uuid[])
returns table (saga_id uuid, parent uuid, root uuid, traceparent text, tracestate text)
language sql stable security definer set search_path from current as $$
    with recursive above (saga_id, parent, here) as (
        select u.id, null::uuid, u.id from unnest(p_sagas) as u(id)
        union all
        select a.saga_id, coalesce(a.parent, c.parent), c.parent
        from above a join child c on c.saga_id = a.here
    )
    select a.saga_id, a.parent, a.here, t.traceparent, t.tracestate
    from above a left join trace_context t on t.saga_id = a.here
    where not exists (select from child c where c.saga_id = a.here)
$$;
comment on function trace_contexts is 'Where the traces of some sagas come from.';

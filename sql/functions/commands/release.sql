-- Gives back commands that the worker holds and has not begun: no attempt is counted, no transition
-- written. Returns those that were still its own.
create or replace function release(p_worker uuid, p_commands uuid[], p_fences integer[])
returns setof uuid language plpgsql security definer set search_path from current
set plan_cache_mode to force_generic_plan set enable_seqscan to off
set enable_hashjoin to off set enable_mergejoin to off set jit to off as $$
begin
    perform 1 from outbox where id = any (p_commands) order by id for no key update;
    return query
        update outbox o set worker = null, deadline = null, fence = o.fence + 1
        from unnest(p_commands, p_fences) as g(command, fence)
        cross join lateral (
            select h.ctid, h.fence, h.worker from outbox h where h.id = g.command offset 0) as h
        where o.ctid = h.ctid and h.fence = g.fence and h.worker = p_worker
        returning o.id;
    perform wake(t.type) from (
        select distinct type from outbox where id = any (p_commands) and worker is null) as t;
end $$;

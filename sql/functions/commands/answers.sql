-- What advance() says of outcomes that were told before, as far as is committed: see recall(). Locks nothing,
-- so that whoever holds locks may ask.
create or replace function answers(p_worker uuid, p_commands uuid[], p_fences integer[])
returns table (
    command uuid, verdict text, status text, fence integer, seq integer, kind text, step text,
    ordinal integer, attempt integer, revision integer, in_doubt boolean, element integer)
language plpgsql set search_path from current
set plan_cache_mode to force_generic_plan set enable_seqscan to off
set enable_hashjoin to off set enable_mergejoin to off set jit to off as $$
#variable_conflict use_column
begin
    return query
        select g.command,
            case when t.seq is not null then 'replayed' when mine.id is not null then 'open' else 'fenced' end,
            coalesce(t.to_status::text, o.status::text, i.status), o.fence, coalesce(t.seq, o.seq), o.kind::text, o.step, o.ordinal,
            o.attempt + 1, o.revision, o.doubt_until is not null, o.element
        from unnest(p_commands, p_fences) as g(command, fence)
        left join lateral (
            select * from transition t
            where t.saga_id = g.command and t.fence = g.fence and t.worker = p_worker and t.line is null
            union all
            select * from transition t
            where t.line = g.command and t.fence = g.fence and t.worker = p_worker offset 0) as t on true
        left join lateral (
            select * from instance i where i.id = coalesce(t.saga_id, g.command) offset 0) as i on true
        left join lateral (select * from outbox o where o.id = g.command offset 0) as now on true
        left join lateral (select now.id where now.fence = g.fence and now.worker = p_worker) as mine on true
        left join lateral (
            select now.* where now.worker = p_worker
              and now.fence = g.fence + (t.seq is not null)::integer) as o on true;
end $$;

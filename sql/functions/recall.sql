-- What became of outcomes whose commit's answer was lost. 'replayed': the transition exists, and the
-- answer is what advance would have said; 'fenced': it does not exist and the command is not this
-- worker's any more; 'open': it does not exist and the worker still holds the command under that
-- fence. Waits for a transaction that may still be committing, by locking the rows first.
create or replace function recall(p_worker uuid, p_commands uuid[], p_fences integer[])
returns table (
    command uuid, verdict text, status text, fence integer, seq integer, kind text, step text,
    ordinal integer, attempt integer, revision integer, in_doubt boolean)
language plpgsql security definer set search_path from current
set plan_cache_mode to force_generic_plan set enable_seqscan to off as $$
#variable_conflict use_column
begin
    perform 1 from outbox where id = any (p_commands) order by id for no key update;
    return query
        select g.command,
            case when t.seq is not null then 'replayed' when mine.id is not null then 'open' else 'fenced' end,
            coalesce(t.to_status::text, o.status::text, i.status), o.fence, coalesce(t.seq, o.seq), o.kind::text, o.step, o.ordinal,
            o.attempt + 1, o.revision, o.doubt_until is not null
        from unnest(p_commands, p_fences) as g(command, fence)
        left join transition t on t.saga_id = g.command and t.fence = g.fence and t.worker = p_worker
        left join instance i on i.id = g.command
        left join outbox mine on mine.id = g.command and mine.fence = g.fence and mine.worker = p_worker
        left join outbox o on o.id = g.command and o.worker = p_worker
            and o.fence = g.fence + (t.seq is not null)::integer;
end $$;

-- What became of outcomes whose commit's answer was lost. 'replayed': the transition exists, and the
-- answer is what advance would have said; 'fenced': it does not exist and the command is not this
-- worker's any more; 'open': it does not exist and the worker still holds the command under that
-- fence. Waits for a transaction that may still be committing, by locking the rows first.
create or replace function recall(p_worker uuid, p_commands uuid[], p_fences integer[])
returns table (
    command uuid, verdict text, status text, fence integer, seq integer, kind text, step text,
    ordinal integer, attempt integer, revision integer, in_doubt boolean, element integer)
language plpgsql security definer set search_path from current
set plan_cache_mode to force_generic_plan set enable_seqscan to off
set enable_hashjoin to off set enable_mergejoin to off set jit to off as $$
#variable_conflict use_column
begin
    perform lock_sagas(p_commands);
    return query select * from answers(p_worker, p_commands, p_fences);
end $$;

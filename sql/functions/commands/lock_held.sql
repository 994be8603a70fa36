-- The commands of these that the worker holds under these fences, locked until the caller's commit:
-- the first statement of a transaction in which transactional steps run. Nobody may sit on those
-- locks for long: the server ends a transaction whose client went silent for p_patience.
create or replace function lock_held(p_worker uuid, p_commands uuid[], p_fences integer[], p_patience interval)
returns table (command uuid) language plpgsql security definer set search_path from current
set plan_cache_mode to force_generic_plan set enable_seqscan to off
set enable_hashjoin to off set enable_mergejoin to off set jit to off as $$
#variable_conflict use_column
begin
    perform set_config('idle_in_transaction_session_timeout',
                       ceil(extract(epoch from p_patience) * 1000)::bigint::text, true);
    if exists (select from outbox where id = any (p_commands) and (root is not null or tail)) then
        perform lock_sagas(p_commands);
    else
        perform 1 from outbox where id = any (p_commands) order by id for no key update;
    end if;
    return query
        select o.id from unnest(p_commands, p_fences) as g(command, fence)
        cross join lateral (
            select o.id, o.fence, o.worker from outbox o where o.id = g.command offset 0) as o
        where o.fence = g.fence and o.worker = p_worker;
end $$;

-- The part of step_on() for many at once: the last plain step of sagas that limits count and nobody else
-- waits for. As the end in advance(), and their slots are given back.
create or replace function end_counted(
    p_now timestamptz, p_worker uuid, p_commands uuid[], p_fences integer[], p_outcomes text[], p_results json[],
    p_took real[])
returns table (
    command uuid, verdict text, status text, fence integer, seq integer, kind text, step text,
    ordinal integer, attempt integer, revision integer, in_doubt boolean, element integer)
language plpgsql set search_path from current
set plan_cache_mode to force_generic_plan set enable_seqscan to off
set enable_hashjoin to off set enable_mergejoin to off set jit to off as $$
#variable_conflict use_column
declare
    v_ending uuid[];
begin
    v_ending := array(
        select o.id from unnest(p_commands, p_fences, p_outcomes) as g(command, fence, outcome)
        cross join lateral (select o.* from outbox o where o.id = g.command offset 0) as o
        join definition_step s on s.type = o.type and s.version = o.version and s.name = o.step
        where g.outcome = 'done' and o.fence = g.fence and o.worker = p_worker and o.tail and o.root is null
          and o.kind = 'action' and s.plain and s.next is null
          and exists (select from ticket t where t.saga_id = o.id)
          and not exists (select from child c where c.saga_id = o.id)
          and not exists (
              select from definition_step b where b.type = o.type and b.version = o.version and b.best_effort));
    if cardinality(v_ending) = 0 then
        return;
    end if;
    perform 1 from outbox where id = any (v_ending) order by id for no key update;
    return query
    with ended as (
        delete from outbox o
        using unnest(p_commands, p_fences, p_results, p_took) as g(command, fence, result, took)
        where g.command = any (v_ending) and o.id = g.command and o.fence = g.fence and o.worker = p_worker
          and not o.abort
        returning o.id, o.type, o.seq, o.ordinal, o.step, o.attempt, o.fence, g.result, g.took
    ), closed as (
        update instance i
        set status = 'COMPLETED', state = 'COMPLETED', ended_at = p_now, output = e.result
        from ended e where i.id = e.id
    ), recorded as (
        insert into transition (
            saga_id, seq, ordinal, kind, step, attempt, outcome, from_status, to_status, result, fence,
            worker, took, at)
        select e.id, e.seq + 1, e.ordinal, 'action', e.step, e.attempt + 1, 'done', 'EXECUTING', 'COMPLETED',
            e.result, e.fence, p_worker, e.took, p_now
        from ended e
    ), left_queue as (
        delete from ticket t using ended e where t.saga_id = e.id
    ), given as (
        delete from slot s using ended e where s.saga_id = e.id
        returning s.type, s.name, s.key
    ), knocked as (
        insert into knock (type, name, key)
        select distinct g.type, case when g.key <> '' then g.name end, nullif(g.key, '') from given g
    )
    select e.id, 'applied', 'COMPLETED', null::integer, e.seq + 1, null::text, null::text, null::integer,
        null::integer, null::integer, false, null::integer
    from ended e;
    perform wake(t.type) from (select distinct i.type from instance i where i.id = any (v_ending)) as t;
end $$;

-- The state machine. Takes a batch of outcomes, and for each whose fence still holds: appends the
-- transition, moves the saga's command on, or closes the saga; all in the caller's transaction. What
-- is done and goes on, which is nearly all, is handled here; other outcomes of plain steps by divert();
-- what is not plain, or is paused, by step_on().
--
--   p_outcomes   done | retry | rejected | in_doubt, and those of step_on()
--   p_results    JSON of those that are done
--   p_took       seconds
--   p_no_effect  of a retry: the attempt is known to have had no effect
--   p_give_up    do not retry, whatever the policy says
--   p_counted    false: the failure does not count against the policy (the worker shut down)
--   p_after      of a retry: wait this long instead of the policy's backoff
--   p_doubt_for  the attempt's effect may still land for this long
--   p_events     what those that are done emitted: see store_events()
--
-- An array of which nothing is said may be null. One row comes back for each outcome: verdict
-- 'applied', 'replayed' (it was applied before; the answer then is the answer now) or 'fenced' (the
-- command is not this worker's any more). Where fence is not null, the worker holds the saga's next
-- command under it.
create or replace function advance(
    p_worker uuid, p_commands uuid[], p_fences integer[], p_outcomes text[], p_results json[], p_took real[],
    p_errors jsonb[] default null, p_no_effect boolean[] default null, p_give_up boolean[] default null,
    p_counted boolean[] default null, p_after interval[] default null, p_doubt_for interval[] default null,
    p_events json[] default null)
returns table (
    command uuid, verdict text, status text, fence integer, seq integer, kind text, step text,
    ordinal integer, attempt integer, revision integer, in_doubt boolean, element integer)
language plpgsql security definer set search_path from current
set plan_cache_mode to force_generic_plan set enable_seqscan to off
set enable_hashjoin to off set enable_mergejoin to off set jit to off as $$
#variable_conflict use_column
declare
    v_now timestamptz := clock();
    v_hold interval;
    v_pauses boolean;
    v_children boolean;
    v_family uuid[];
    v_done integer;
    v_diverted integer;
    v_stepped integer := 0;
begin
    select s.hold, s.pauses, exists (select from definition_step d where d.does = 'saga')
    into strict v_hold, v_pauses, v_children from setting s;
    if v_children then
        -- A sub-saga's step locks like any other's below, and so would hold up whoever has locked the saga
        -- that waits for it, for which step_on() would wait in its turn.
        v_family := array(
            select o.id from unnest(p_commands, p_fences) as g(command, fence)
            cross join lateral (
                select h.id, h.fence, h.worker, h.root, h.tail from outbox h where h.id = g.command offset 0) as o
            where o.fence = g.fence and o.worker = p_worker and (o.root is not null or o.tail));
        if v_family <> '{}' then
            perform lock_sagas(v_family);
        end if;
    end if;

    -- Otherwise nothing is locked beforehand: under one fence a row changes in its abort flag only, so the
    -- update and the delete look at the fence and at the flag once more, in the row as it is by then.
    -- In id order, the one order in which outbox rows are locked. The laterals and the joins by ctid
    -- leave the planner one way to the rows, whatever it believes of the tables' sizes.
    return query
    with held as materialized (
        select o.ctid as place, o.id, o.fence, o.seq, o.ordinal, o.attempt, g.result, g.took,
            s.name as step, s.state, s.next, s.next_timeout
        from (
            select * from unnest(p_commands, p_fences, p_outcomes, p_results, p_took)
                as u(command, fence, outcome, result, took)
            where u.outcome = 'done'
            order by u.command) as g
        cross join lateral (
            select o.ctid, o.id, o.fence, o.worker, o.seq, o.ordinal, o.attempt, o.kind, o.abort, o.type,
                o.version, o.step, o.root, o.tail
            from outbox o where o.id = g.command offset 0) as o
        join definition_step s on s.type = o.type and s.version = o.version and s.name = o.step
        where o.fence = g.fence and o.worker = p_worker and o.kind = 'action' and not o.abort
          and o.root is null and (s.next is not null or not o.tail)
          and (not v_pauses or not is_paused(o.id, o.type))
    ),
    moved as (
        update outbox o
        set seq = o.seq + 1, fence = o.fence + 1, ordinal = o.ordinal + 1, attempt = 0, failures = 0,
            deaths = 0, revision = 0, doubt_until = null, awaits = null, moved_at = v_now,
            deadline = v_now + v_hold + h.next_timeout, step = h.next, state = h.state
        from held h
        where o.ctid = h.place and o.fence = h.fence and o.worker = p_worker and not o.abort
          and h.next is not null
        returning h.*
    ),
    ended as (
        delete from outbox o using held h
        where o.ctid = h.place and o.fence = h.fence and o.worker = p_worker and not o.abort
          and h.next is null and not o.tail
        returning h.*
    ),
    closed as (
        update instance i
        set status = 'COMPLETED', state = 'COMPLETED', ended_at = v_now, output = e.result
        from ended e
        cross join lateral (select n.ctid from instance n where n.id = e.id offset 0) as n
        where i.ctid = n.ctid
    ),
    applied as (
        select m.*, 'EXECUTING' as to_status from moved m
        union all
        select e.*, 'COMPLETED' from ended e
    ),
    recorded as (
        insert into transition (
            saga_id, seq, ordinal, kind, step, attempt, outcome, from_status, to_status, result, fence,
            worker, took, at)
        select a.id, a.seq + 1, a.ordinal, 'action', a.step, a.attempt + 1, 'done', 'EXECUTING', a.to_status,
            a.result, a.fence, p_worker, a.took, v_now
        from applied a
    )
    select a.id, 'applied', a.to_status, k.fence, a.seq + 1, k.kind, a.next, k.ordinal, k.attempt, k.revision,
        false, null::integer
    from applied a
    left join lateral (
        select a.fence + 1 as fence, 'action' as kind, a.ordinal + 1 as ordinal, 1 as attempt, 0 as revision) as k
        on a.next is not null;

    get diagnostics v_done = row_count;
    if v_done = cardinality(p_commands) then
        if p_events is not null then
            perform store_events(v_now, p_worker, p_commands, p_fences, p_events);
        end if;
        return;
    end if;
    return query
        select * from divert(
            v_now, p_worker, p_commands, p_fences, p_outcomes, p_results, p_took, p_errors, p_no_effect,
            p_give_up, p_counted, p_after, p_doubt_for);
    get diagnostics v_diverted = row_count;
    if v_done + v_diverted < cardinality(p_commands) then
        return query
            select * from step_on(
                v_now, p_worker, p_commands, p_fences, p_outcomes, p_results, p_took, p_errors, p_no_effect,
                p_give_up, p_counted, p_after, p_doubt_for);
        get diagnostics v_stepped = row_count;
    end if;
    if p_events is not null then
        perform store_events(v_now, p_worker, p_commands, p_fences, p_events);
    end if;
    if v_done + v_diverted + v_stepped < cardinality(p_commands) then
        -- What has no transition of this very moment was applied before, or is not this worker's. Nothing
        -- is locked for that, which might be others' by now and out of order: what told of it before, if
        -- it was under way still, has been waited for above, by its row.
        return query
            select r.* from answers(p_worker, p_commands, p_fences) as r
            where not exists (
                select from unnest(p_commands, p_fences) as g(command, fence)
                join transition t on (t.saga_id = g.command or t.line = g.command) and t.fence = g.fence
                where g.command = r.command and t.worker = p_worker and t.at = v_now);
        if exists (
            select from unnest(p_commands, p_fences) as g(command, fence)
            cross join lateral (select o.fence, o.worker from outbox o where o.id = g.command offset 0) as o
            where o.fence = g.fence and o.worker = p_worker)
        then
            raise exception 'a command changed under its fence, which nothing does; tell its outcome again'
                using errcode = 'serialization_failure';
        end if;
    end if;
end $$;

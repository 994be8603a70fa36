-- The part of advance() for whatever does not simply go on: failed attempts, compensations, aborted
-- sagas. The arguments and the answer are those of advance(), the answer only for what it applied;
-- what advance() has moved already is under another fence by now.
create or replace function divert(
    p_now timestamptz, p_worker uuid, p_commands uuid[], p_fences integer[], p_outcomes text[], p_results json[],
    p_took real[], p_errors jsonb[], p_no_effect boolean[], p_give_up boolean[], p_counted boolean[],
    p_after interval[], p_doubt_for interval[])
returns table (
    command uuid, verdict text, status text, fence integer, seq integer, kind text, step text,
    ordinal integer, attempt integer, revision integer, in_doubt boolean, element integer)
language plpgsql set search_path from current
set plan_cache_mode to force_generic_plan set enable_seqscan to off
set enable_hashjoin to off set enable_mergejoin to off set jit to off as $$
#variable_conflict use_column
declare
    v_setting setting;
    v_left uuid[];
begin
    select * into strict v_setting from setting;
    v_left := array(
        select g.command from unnest(p_commands, p_fences) as g(command, fence)
        cross join lateral (
            select o.fence, o.worker, o.root, o.tail from outbox o where o.id = g.command offset 0) as o
        where o.fence = g.fence and o.worker = p_worker and o.root is null and not o.tail);
    -- In id order; then decide in a statement that sees the rows as they are locked.
    perform 1 from outbox where id = any (v_left) order by id for no key update;

    return query
    with given as (
        select * from unnest(p_commands, p_fences, p_outcomes, p_results, p_errors, p_no_effect,
                             p_give_up, p_counted, p_after, p_doubt_for, p_took)
            as g(command, fence, outcome, result, error, no_effect, give_up, counted, after, doubt_for, took)
    ),
    held as (
        select o.*, g.outcome, g.result, g.error, coalesce(g.no_effect, false) as no_effect, g.after, g.took,
            o.failures + (g.outcome <> 'done' and coalesce(g.counted, true))::integer as failures_now,
            case o.kind when 'action' then s.transactional else s.undo_transactional end as transactional,
            case o.kind when 'action' then s.attempts else s.undo_attempts end as attempts,
            case o.kind when 'action' then s.backoff else s.undo_backoff end as backoff,
            case o.kind when 'action' then s.backoff_cap else s.undo_backoff_cap end as backoff_cap,
            s.undo, s.after_pivot, s.pivot, coalesce(g.give_up, false) as give_up, g.doubt_for
        from given g
        cross join lateral (select o.ctid as place, o.* from outbox o where o.id = g.command offset 0) as o
        join definition_step s on s.type = o.type and s.version = o.version and s.name = o.step
        where o.fence = g.fence and o.worker = p_worker and (o.kind <> 'action' or g.outcome <> 'done' or o.abort)
          -- The rest is step_on()'s.
          and s.plain and o.root is null and not o.tail and o.kind <> 'reconcile'
          and g.outcome in ('done', 'retry', 'rejected', 'in_doubt')
          and not (v_setting.pauses and is_paused(o.id, o.type))
    ),
    -- doubt: until when an effect of this command may still land; null: there is none, or it is known.
    -- A transactional attempt leaves none, it was rolled back.
    judged as (
        select h.*,
            case
                when h.outcome = 'done' or h.transactional then null
                when h.outcome = 'rejected' or (h.outcome = 'retry' and h.no_effect) then h.doubt_until
                else greatest(h.doubt_until, p_now + coalesce(h.doubt_for, '0') + v_setting.grace)
            end as doubt,
            h.outcome <> 'done' and (
                h.outcome = 'rejected' or h.give_up or h.abort
                or h.failures_now >= h.attempts) as ended
        from held h
    ),
    -- repeats: the same command again, later. Else the saga is suspended, or undone.
    aimed as (
        select j.*,
            j.outcome <> 'done' and not j.ended as repeats,
            j.ended and (
                j.kind = 'compensation'
                or (not j.abort and (j.after_pivot or (j.pivot and j.doubt is not null))))
                as suspends,
            j.kind = 'action' and j.undo and (j.outcome = 'done' or j.doubt is not null) as undoes_itself
        from judged j
    ),
    decided as (
        select a.*,
            case
                when a.suspends then null
                when a.repeats then a.undoes
                when a.undoes_itself then a.ordinal
                else past.ordinal
            end as target,
            case
                when a.suspends or a.repeats then null
                when a.undoes_itself then a.step
                else past.step
            end as target_step,
            case when not (a.suspends or a.repeats or a.undoes_itself) then past.element end as target_element,
            p_now + coalesce(a.after, retry_delay(a.backoff, a.backoff_cap, a.failures_now - 1)) as again_at
        from aimed a
        left join lateral (
            select u.ordinal, u.step, u.element
            from undo_target(a.id, a.type, a.version,
                             case a.kind when 'action' then a.ordinal else a.undoes end) as u
            where not (a.repeats or a.suspends or a.undoes_itself)) as past on true
    ),
    moved as (
        select d.*,
            case
                when d.suspends then 'SUSPENDED'
                when d.repeats then d.status
                when d.target is not null then 'COMPENSATING'
                else 'FAILED'
            end as to_status,
            case
                when d.outcome in ('retry', 'in_doubt', 'rejected') and d.ended and d.kind = 'action'
                    then case when d.doubt is null then 'rejected' else 'in_doubt' end
                when d.outcome = 'in_doubt' and d.transactional then 'retry'
                else d.outcome
            end as final_outcome
        from decided d
    ),
    -- later: when the next command is due, if not at once. kept: the worker goes on with it.
    placed as (
        select m.*,
            case
                when m.to_status in ('FAILED', 'COMPENSATING') then m.to_status
                else m.state
            end as to_state,
            case
                when m.repeats then m.again_at
                when m.to_status = 'COMPENSATING' and m.kind = 'action' and m.target = m.ordinal
                    then nullif(greatest(m.doubt, p_now), p_now)
            end as later,
            m.repeats or m.suspends as stays
        from moved m
    ),
    aligned as (
        select p.*,
            case when p.stays then p.kind else 'compensation' end as new_kind,
            case when p.stays then p.step else p.target_step end as new_step,
            case when p.stays then p.undoes else p.target end as new_undoes,
            case when p.stays then p.element else p.target_element end as new_element,
            case when p.stays then p.ordinal else p.ordinal + 1 end as new_ordinal,
            case when p.stays then p.attempt + 1 else 0 end as new_attempt,
            case when p.stays
                then p.revision + (p.no_effect and p.doubt is null and p.repeats)::integer else 0
            end as new_revision,
            case when p.stays then p.doubt end as new_doubt,
            p.to_status = 'COMPENSATING' and not p.stays and p.later is null as kept
        from placed p
    ),
    recorded as (
        insert into transition (
            saga_id, seq, ordinal, undoes, kind, step, attempt, outcome, from_status, to_status, state,
            result, error, fence, worker, took, at, due_at, element)
        select a.id, a.seq + 1, a.ordinal, a.undoes, a.kind, a.step, a.attempt + 1, a.final_outcome,
            a.status, a.to_status, a.to_state, a.result, a.error, a.fence, p_worker, a.took, p_now, a.later,
            a.element
        from aligned a
    ),
    ended as (
        delete from outbox o using aligned a where o.ctid = a.place and a.to_status = 'FAILED'
    ),
    stepped as (
        update outbox o
        set status = a.to_status, state = a.to_state, seq = a.seq + 1, fence = a.fence + 1,
            moved_at = p_now, kind = a.new_kind, step = a.new_step, undoes = a.new_undoes,
            element = a.new_element,
            ordinal = a.new_ordinal, attempt = a.new_attempt, revision = a.new_revision,
            doubt_until = a.new_doubt,
            failures = case when a.stays then a.failures_now else 0 end,
            deaths = case when a.stays then a.deaths else 0 end,
            reason = case when a.suspends
                then suspension_reason(a.kind, a.step, a.final_outcome, a.attempt + 1) end,
            abort = false,
            due_at = coalesce(a.later, o.due_at),
            worker = case when a.kept then p_worker end,
            deadline = case when a.kept then p_now + v_setting.hold + s.undo_timeout end
        from aligned a
        join definition_step s on s.type = a.type and s.version = a.version and s.name = a.new_step
        where o.ctid = a.place and a.to_status <> 'FAILED'
    ),
    closing as (
        select a.id, a.type, coalesce(why.step, a.step) as step,
            coalesce(why.error, a.error, '{"type": "Aborted"}') as error,
            case when why.error ->> 'type' = 'Cancelled' then 'CANCELLED' else 'FAILED' end as state
        from aligned a
        left join lateral (
            select t.step, t.error from transition t
            where t.saga_id = a.id and t.kind <> 'compensation' and t.error is not null
              and (a.kind = 'compensation' or a.outcome = 'done' or t.kind = 'act')
            order by t.kind = 'act' desc, t.seq desc limit 1) as why on true
        where a.to_status = 'FAILED'
    ),
    closed as (
        update instance i
        set status = 'FAILED', ended_at = p_now, state = c.state, error = c.error
        from closing c
        cross join lateral (select n.ctid from instance n where n.id = c.id offset 0) as n
        where i.ctid = n.ctid
    ),
    listed as (
        insert into failure (saga_id, type, step, error, state, ended_at)
        select c.id, c.type, c.step, coalesce(c.error ->> 'type', 'Unknown'), c.state, p_now from closing c
    )
    select a.id, 'applied', a.to_status::text, k.fence, a.seq + 1, k.kind, k.step, k.ordinal, k.attempt, k.revision,
        false, k.element
    from aligned a
    left join lateral (
        select a.fence + 1 as fence, a.new_kind::text as kind, a.new_step as step, a.new_ordinal as ordinal,
            a.new_attempt + 1 as attempt, a.new_revision as revision, a.new_element as element) as k on a.kept;
end $$;

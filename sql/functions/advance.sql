-- The state machine. Takes a batch of outcomes, and for each whose fence still holds: appends the
-- transition, moves the saga's command on, or closes the saga; all in the caller's transaction.
--
--   p_outcomes   done | retry | rejected | in_doubt
--   p_no_effect  of a retry: the attempt is known to have had no effect
--   p_give_up    do not retry, whatever the policy says
--   p_counted    false: the failure does not count against the policy (the worker shut down)
--   p_after      of a retry: wait this long instead of the policy's backoff
--   p_doubt_for  the attempt's effect may still land for this long
--   p_keep       the worker wants to keep the next commands in hand
--
-- One row comes back for each outcome: verdict 'applied', 'replayed' (it was applied before; the
-- answer then is the answer now) or 'fenced' (the command is not this worker's any more). Where
-- fence is not null, the worker holds the saga's next command under it.
create or replace function advance(
    p_worker uuid, p_commands uuid[], p_fences integer[], p_outcomes text[], p_results jsonb[],
    p_errors jsonb[], p_no_effect boolean[], p_give_up boolean[], p_counted boolean[],
    p_after interval[], p_doubt_for interval[], p_took interval[], p_keep boolean)
returns table (
    command uuid, verdict text, status text, fence integer, seq integer, kind text, step text,
    ordinal integer, attempt integer, revision integer, in_doubt boolean)
language plpgsql security definer set search_path from current
set plan_cache_mode to force_generic_plan set enable_seqscan to off as $$
#variable_conflict use_column
declare
    v_now timestamptz := clock();
    v_setting setting;
    v_applied integer;
begin
    select * into strict v_setting from setting;
    -- In id order, the one order in which outbox rows are locked; then decide in a statement that
    -- sees the rows as they are locked.
    perform 1 from outbox where id = any (p_commands) order by id for no key update;

    return query
    with given as (
        select * from unnest(p_commands, p_fences, p_outcomes, p_results, p_errors, p_no_effect,
                             p_give_up, p_counted, p_after, p_doubt_for, p_took)
            as g(command, fence, outcome, result, error, no_effect, give_up, counted, after, doubt_for, took)
    ),
    held as (
        select o.*, g.outcome, g.result, g.error, coalesce(g.no_effect, false) as no_effect, g.after, g.took,
            o.failures + (g.outcome <> 'done' and g.counted)::integer as failures_now,
            case o.kind when 'action' then s.transactional else s.undo_transactional end as transactional,
            case o.kind when 'action' then s.attempts else s.undo_attempts end as attempts,
            case o.kind when 'action' then s.backoff else s.undo_backoff end as backoff,
            case o.kind when 'action' then s.backoff_cap else s.undo_backoff_cap end as backoff_cap,
            s.next, s.undo, s.after_pivot, s.pivot, s.state as step_state,
            g.give_up, g.doubt_for
        from given g
        join outbox o on o.id = g.command and o.fence = g.fence and o.worker = p_worker
        join definition_step s on s.type = o.type and s.version = o.version and s.name = o.step
    ),
    -- doubt: until when an effect of this command may still land; null: there is none, or it is known.
    -- A transactional attempt leaves none, it was rolled back.
    judged as (
        select h.*,
            case
                when h.outcome = 'done' or h.transactional then null
                when h.outcome = 'rejected' or (h.outcome = 'retry' and h.no_effect) then h.doubt_until
                else greatest(h.doubt_until, v_now + coalesce(h.doubt_for, '0') + v_setting.grace)
            end as doubt,
            h.outcome <> 'done' and (
                h.outcome = 'rejected' or h.give_up or h.abort
                or h.failures_now >= h.attempts) as ended
        from held h
    ),
    -- forward: stays with its action or goes on to the next; else undoes, suspends or stays.
    aimed as (
        select j.*,
            j.kind = 'action' and (j.outcome = 'done' or not j.ended) and not (j.abort and j.outcome = 'done')
                as forward,
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
                when a.forward or a.suspends then null
                when a.kind = 'compensation' and a.outcome <> 'done' then a.undoes
                when a.undoes_itself then a.ordinal
                else past.ordinal
            end as target,
            case
                when a.forward or a.suspends then null
                when a.kind = 'compensation' and a.outcome <> 'done' then a.step
                when a.undoes_itself then a.step
                else past.step
            end as target_step,
            a.kind = 'compensation' and a.outcome <> 'done' and not a.ended as undo_again,
            v_now + coalesce(a.after, retry_delay(a.backoff, a.backoff_cap, a.failures_now - 1)) as again_at
        from aimed a
        left join lateral (
            select u.ordinal, u.step
            from undo_target(a.id, a.type, a.version,
                             case a.kind when 'action' then a.ordinal else a.undoes end) as u
            where not (a.forward or a.suspends or a.undoes_itself)
              and not (a.kind = 'compensation' and a.outcome <> 'done')) as past on true
    ),
    -- moves: the row's next values. repeats: the same command again, later.
    moved as (
        select d.*,
            case
                when d.suspends then 'SUSPENDED'
                when d.forward and d.outcome = 'done' and d.next is null then 'COMPLETED'
                when d.forward then 'EXECUTING'
                when d.target is not null then 'COMPENSATING'
                else 'FAILED'
            end as to_status,
            (d.forward and d.outcome <> 'done') or d.undo_again as repeats,
            case
                when d.outcome in ('retry', 'in_doubt', 'rejected') and d.ended and d.kind = 'action'
                    then case when d.doubt is null then 'rejected' else 'in_doubt' end
                when d.outcome = 'in_doubt' and d.transactional then 'retry'
                else d.outcome
            end as final_outcome
        from decided d
    ),
    placed as (
        select m.*,
            case
                when m.to_status in ('COMPLETED', 'FAILED', 'COMPENSATING') then m.to_status
                when m.outcome = 'done' and m.kind = 'action' then m.step_state
                else m.state
            end as to_state,
            case
                when m.repeats then m.again_at
                when m.to_status = 'COMPENSATING' and m.kind = 'action' and m.target = m.ordinal
                    then nullif(greatest(m.doubt, v_now), v_now)
            end as later
        from moved m
    ),
    recorded as (
        insert into transition (
            saga_id, seq, ordinal, undoes, kind, step, attempt, outcome, from_status, to_status, state,
            result, error, fence, worker, took, at, due_at)
        select p.id, p.seq + 1, p.ordinal, p.undoes, p.kind, p.step, p.attempt + 1, p.final_outcome,
            p.status, p.to_status, p.to_state, p.result, p.error, p.fence, p_worker, p.took, v_now, p.later
        from placed p
    ),
    ended as (
        delete from outbox o using placed p
        where o.id = p.id and p.to_status in ('COMPLETED', 'FAILED')
    ),
    stepped as (
        update outbox o
        set status = p.to_status, state = p.to_state, seq = p.seq + 1, fence = p.fence + 1,
            moved_at = v_now,
            kind = case when p.repeats or p.suspends then p.kind
                        when p.to_status = 'COMPENSATING' then 'compensation' else 'action' end,
            step = case when p.repeats or p.suspends then p.step
                        when p.to_status = 'COMPENSATING' then p.target_step else p.next end,
            undoes = case when p.repeats or p.suspends then p.undoes else p.target end,
            ordinal = case when p.repeats or p.suspends then p.ordinal else p.ordinal + 1 end,
            attempt = case when p.repeats or p.suspends then p.attempt + 1 else 0 end,
            failures = case when p.repeats or p.suspends then p.failures_now else 0 end,
            deaths = case when p.repeats or p.suspends then p.deaths else 0 end,
            revision = case when p.repeats or p.suspends
                            then p.revision + (p.no_effect and p.doubt is null and p.repeats)::integer else 0 end,
            doubt_until = case when p.repeats or p.suspends then p.doubt end,
            reason = case when p.suspends then suspension_reason(p.kind, p.step, p.final_outcome, p.attempt + 1) end,
            abort = false,
            due_at = case when p.repeats then p.again_at when p.later is not null then p.later else o.due_at end,
            worker = case when p_keep and not p.repeats and not p.suspends and p.later is null then p_worker end,
            deadline = case when p_keep and not p.repeats and not p.suspends and p.later is null
                then v_now + v_setting.hold + n.timeout end
        from placed p
        left join lateral (
            select case when p.to_status = 'COMPENSATING' then s.undo_timeout else s.timeout end as timeout
            from definition_step s
            where s.type = p.type and s.version = p.version
              and s.name = case when p.to_status = 'COMPENSATING' then p.target_step else p.next end
        ) as n on true
        where o.id = p.id and p.to_status not in ('COMPLETED', 'FAILED')
        returning o.*
    ),
    closed as (
        update instance i
        set status = p.to_status, state = p.to_status, ended_at = v_now,
            output = case p.to_status when 'COMPLETED' then p.result end,
            error = case p.to_status when 'FAILED' then coalesce(why.error, p.error, '{"type": "Aborted"}') end
        from placed p
        left join lateral (
            select t.error from transition t
            where t.saga_id = p.id and p.to_status = 'FAILED' and (p.kind = 'compensation' or p.outcome = 'done')
              and t.kind <> 'compensation' and t.error is not null
            order by t.seq desc limit 1) as why on true
        where i.id = p.id and p.to_status in ('COMPLETED', 'FAILED')
    )
    select p.id, 'applied', p.to_status, s.fence, p.seq + 1, s.kind, s.step, s.ordinal, s.attempt + 1,
        s.revision, s.doubt_until is not null
    from placed p
    left join stepped s on s.id = p.id and s.worker is not null;

    get diagnostics v_applied = row_count;
    if v_applied < cardinality(p_commands) then
        -- What has no transition of this very moment was applied before, or is not this worker's.
        return query
            select r.* from recall(p_worker, p_commands, p_fences) as r
            where not exists (
                select from unnest(p_commands, p_fences) as g(command, fence)
                join transition t on t.saga_id = g.command and t.fence = g.fence
                where g.command = r.command and t.worker = p_worker and t.at = v_now);
    end if;
end $$;

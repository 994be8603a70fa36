-- Takes commands from workers that are dead: forgets workers whose lease has run out, then releases
-- what is held by nobody who is registered, and what is held past its deadline by anybody. Each such
-- command's attempt ends in doubt (a transactional one was rolled back), is not counted against the
-- policy, and runs again under the same idempotency key; after setting.max_deaths the saga is
-- suspended as one that kills its worker. p_limit bounds one call. Returns what was taken.
create or replace function reap(p_limit integer default 500)
returns table (command uuid, type text, step text, attempt integer, holder uuid, suspended boolean)
language plpgsql security definer set search_path from current
set plan_cache_mode to force_generic_plan as $$
#variable_conflict use_column
declare
    v_now timestamptz := clock();
    v_setting setting;
    v_locked uuid[];
    v_line outbox;
    v_types text[];
begin
    select * into strict v_setting from setting;
    delete from worker where id in (
        select w.id from worker w where w.expires_at < v_now order by w.id for update skip locked);

    v_locked := array(
        select o.id from outbox o
        where o.worker is not null
          and (o.deadline + v_setting.grace < v_now or not exists (select from worker w where w.id = o.worker))
        order by o.id limit p_limit
        for no key update of o skip locked);

    -- Looked at once more in a new statement: a row may have been claimed, before it was locked, by a
    -- worker that registered after the statement above began.
    return query
    with lost as (
        select o.*, s.after_pivot, s.pivot,
            case o.kind when 'action' then s.transactional else s.undo_transactional end as transactional,
            o.deaths + 1 >= v_setting.max_deaths as kills,
            lost_error(o) as error, due_after_deaths(o.deaths + 1, v_now) as due_again
        from outbox o
        join definition_step s on s.type = o.type and s.version = o.version and s.name = o.step
        where o.id = any (v_locked) and o.worker is not null
          and s.plain and o.root is null and not o.tail and not o.abort
          and (o.deadline + v_setting.grace < v_now or not exists (select from worker w where w.id = o.worker))
    ),
    -- Under the fence after the lost one, so that no late outcome takes this transition for its own.
    recorded as (
        insert into transition (
            saga_id, seq, ordinal, undoes, kind, step, attempt, outcome, from_status, to_status, state,
            error, fence, worker, at, due_at)
        select l.id, l.seq + 1, l.ordinal, l.undoes, l.kind, l.step, l.attempt + 1,
            case when l.transactional then 'retry' else 'in_doubt' end,
            l.status, case when l.kills then 'SUSPENDED' else l.status end, l.state,
            l.error,
            l.fence + 1, l.worker, v_now, l.due_again
        from lost l
    ),
    freed as (
        update outbox o
        set worker = null, deadline = null, fence = l.fence + 1, seq = l.seq + 1, attempt = l.attempt + 1,
            deaths = l.deaths + 1, due_at = l.due_again, moved_at = v_now,
            doubt_until = case when l.transactional then l.doubt_until
                               else greatest(l.doubt_until, l.deadline + v_setting.grace) end,
            status = case when l.kills then 'SUSPENDED' else l.status end,
            reason = case when l.kills then format(
                'step "%s" (%s): %s workers died while they ran it', l.step, l.kind, l.deaths + 1) end
        from lost l where o.id = l.id
    )
    select l.id, l.type, l.step, l.attempt + 1, l.worker, l.kills from lost l;

    for v_line in
        select o.* from outbox o
        where o.id = any (v_locked) and o.worker is not null
          and (o.deadline + v_setting.grace < v_now or not exists (select from worker w where w.id = o.worker))
        order by o.id
    loop
        -- What somebody holds of its saga is left for the next sweep.
        continue when not try_saga(coalesce(v_line.root, v_line.id));
        perform line_lost(v_line, lost_error(v_line), v_now);
        return query
            select v_line.id, v_line.type, v_line.step, v_line.attempt + 1, v_line.worker,
                exists (select from outbox o where o.id = v_line.id and o.status = 'SUSPENDED');
    end loop;
    if exists (select from deadline d where d.at < v_now) then
        perform expire(v_now);
    end if;

    v_types := array(select distinct o.type from outbox o where o.id = any (v_locked) and o.worker is null);
    perform wake(t) from unnest(v_types) as t;
end $$;

-- The next event of a saga for a subscription, taken to be delivered now. verdict 'taken': under
-- `fence`, which delivered() and not_delivered() want to see; 'wait': somebody else delivers it, or its
-- time has not come, look again after `wait`; 'none': there is none, and whoever brings the next one
-- makes a job for it. p_leeway: how much longer than the subscription's timeout an attempt may take.
create or replace function take_delivery(p_subscription text, p_saga uuid, p_leeway interval)
returns table (
    verdict text, wait interval, fence integer, number bigint, seq integer, type text, version integer, key text,
    step text, name text, payload json, at timestamptz, attempt integer, url text, secrets text[], timeout interval)
language plpgsql security definer set search_path from current set jit to off as $$
#variable_conflict use_column
declare
    v_now timestamptz := clock();
    v_lane lane;
    v_event bigint;
    v_attempts integer;
begin
    select * into v_lane from lane l where l.subscription = p_subscription and l.saga_id = p_saga for update;
    if not found then
        verdict := 'none';
        return next;
        return;
    end if;
    -- A statement of its own, which sees what was brought before the lane was locked.
    select d.event, d.attempts into v_event, v_attempts
    from delivery d join event e on e.number = d.event
    where d.subscription = p_subscription and d.saga_id = p_saga and d.status = 'waiting'
    order by d.event limit 1;
    if not found then
        delete from lane l where l.subscription = p_subscription and l.saga_id = p_saga;
        verdict := 'none';
        return next;
        return;
    end if;
    if greatest(v_lane.busy_until, v_lane.due_at) > v_now then
        verdict := 'wait';
        wait := greatest(v_lane.busy_until, v_lane.due_at) - v_now;
        return next;
        return;
    end if;
    return query
        with mine as (
            update lane l set fence = l.fence + 1, busy_until = v_now + s.timeout + p_leeway
            from subscription s
            where l.subscription = p_subscription and l.saga_id = p_saga and s.name = l.subscription
            returning l.fence, s.url, s.secrets, s.timeout
        )
        select 'taken', null::interval, m.fence, e.number, e.seq, e.type, e.version, i.key, e.step, e.name,
            e.payload, e.at, v_attempts + 1, m.url, m.secrets, m.timeout
        from mine m cross join event e left join instance i on i.id = e.saga_id
        where e.number = v_event;
end $$;

-- Starts a schedule's sagas, one a tick, and notes up to when its ticks have been dealt with and when
-- the next is due: in one transaction, under the schedule's lock. p_cron, p_zone and p_since are what
-- the ticks were worked out from: if that has changed meanwhile, because another worker was first or
-- somebody changed the schedule, nothing happens. What cannot be started any more (the type's input has
-- changed) is told as a problem, and its tick passed over. Returns how many were started.
create or replace function start_ticks(
    p_name text, p_cron text, p_zone text, p_since timestamptz, p_ticks timestamptz[], p_until timestamptz,
    p_next timestamptz)
returns table (started integer, problem text)
language plpgsql security definer set search_path from current as $$
declare
    v_schedule schedule;
begin
    select * into v_schedule from schedule
    where name = p_name and cron = p_cron and zone = p_zone and last_tick = p_since and not paused
    for update;
    if not found then
        return query select 0, null::text;
        return;
    end if;
    problem := case when cardinality(p_ticks) > 0 then start_problem(v_schedule.type, v_schedule.input) end;
    started := 0;
    if problem is null and cardinality(p_ticks) > 0 then
        select count(*) into started
        from (
            select array_agg(u.key) as keys
            from (
                select format('%s/%s', p_name, to_char(t.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')) as key
                from unnest(p_ticks) as t(at)) as u
            -- A schedule that was dropped and set again may have started it with another input.
            where not exists (select from instance i where i.type = v_schedule.type and i.key = u.key)) as n
        cross join lateral start_many(v_schedule.type, array(select v_schedule.input from unnest(n.keys)), n.keys)
        where n.keys is not null;
    end if;
    update schedule set last_tick = p_until, next_tick = p_next where name = p_name;
    return next;
end $$;

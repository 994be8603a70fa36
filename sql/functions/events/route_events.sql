-- Turns up to p_limit events into deliveries, in their order, and answers the lanes for which a job is
-- to be made, in the same transaction; more: there may be further events. Also those lanes that an
-- operator has opened, and those whose job may be lost (is_stray): their event is overdue by p_overdue,
-- and nobody tries it.
create or replace function route_events(p_limit integer default 500, p_overdue interval default null)
returns table (subscription text, saga_id uuid, channel text, is_stray boolean, more boolean)
language plpgsql security definer set search_path from current as $$
#variable_conflict use_column
declare
    v_now timestamptz := clock();
    v_numbers bigint[];
begin
    perform pg_advisory_xact_lock(route_key());
    v_numbers := array(
        select e.number from event e where not e.relayed order by e.number limit p_limit for no key update);
    update event set relayed = true where number = any (v_numbers);
    return query
        with made as (
            insert into delivery (saga_id, subscription, event)
            select e.saga_id, s.name, e.number
            from event e join subscription s on s.disabled_at is null and event_matches(e.name, s.patterns)
            where e.number = any (v_numbers)
            returning saga_id, subscription
        ), wanted as (
            select m.subscription, m.saga_id from made m
            union select l.subscription, l.saga_id from lane l where l.called = 0
            union select l.subscription, l.saga_id from lane l
            where l.due_at < v_now - p_overdue and (l.busy_until is null or l.busy_until < v_now - p_overdue)
        ), lanes as (
            insert into lane as l (subscription, saga_id, called, due_at)
            select w.subscription, w.saga_id, 1, v_now from wanted w order by w.subscription, w.saga_id
            on conflict (subscription, saga_id) do update set called = l.called + 1
            returning l.subscription, l.saga_id, l.called,
                coalesce(l.called > 1 and l.due_at < v_now - p_overdue
                    and (l.busy_until is null or l.busy_until < v_now - p_overdue), false) as stray
        )
        select n.subscription, n.saga_id,
            case when s.url is null then 'function' when s.url like 'mailto:%' then 'mail' else 'webhook' end,
            n.stray, false
        from lanes n join subscription s on s.name = n.subscription
        where n.called = 1 or n.stray
        order by n.saga_id;
    if cardinality(v_numbers) = p_limit then
        return query select null::text, null::uuid, null::text, null::boolean, true;
    end if;
end $$;

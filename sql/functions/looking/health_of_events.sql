-- What is wrong with events on their way, and with the jobs that bring them: findings for the view health.
create or replace function health_of_events()
returns table (severity text, finding text, subject text, detail text, remedy text)
language sql stable security definer set search_path from current set jit to off as $$
    select 'error', 'dead letters', d.subscription,
        format('%s events could not be delivered, the last at %s: %s', count(*), max(d.at),
            (array_agg(d.error order by d.at desc))[1]),
        'select * from dead_letters; deliver them again: bin/saga redeliver'
    from delivery d where d.status = 'dead' group by d.subscription
    union all
    select 'error', 'subscription disabled', s.name, format('since %s: %s', s.disabled_at, s.disabled_why),
        'Mend what receives it, then subscribe again: bin/saga subscribe'
    from subscription s where s.disabled_at is not null
    union all
    select 'warning', 'events wait', null, format('%s, the first since %s', count(*), min(e.at)),
        'Workers bring events on their way: see that one runs'
    from event e where not e.relayed and e.at < clock() - interval '1 minute' having count(*) > 0
    union all
    select 'warning', 'jobs wait', j.entrypoint::text,
        format('%s of pgqueuer''s jobs were due, the first at %s', count(*), min(j.execute_after)),
        'Workers run them: see that one runs'
    from pgqueuer j
    where j.status = 'queued' and j.execute_after < clock() - interval '5 minutes' group by j.entrypoint
$$;

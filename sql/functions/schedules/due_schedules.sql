-- The schedules of which a tick is due, or of which nobody has worked out the next one yet; and the
-- database's clock, by which they are due.
create or replace function due_schedules()
returns table (name text, cron text, zone text, catch_up text, last_tick timestamptz, now timestamptz)
language sql stable security definer set search_path from current as $$
    select s.name, s.cron, s.zone, s.catch_up, s.last_tick, clock()
    from schedule s
    where not s.paused and coalesce(s.next_tick, '-infinity') <= clock()
    order by s.name
$$;

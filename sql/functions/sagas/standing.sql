-- What each line of a live saga is at, in words, for whoever is told that an act does not apply.
create or replace function standing(p_saga uuid) returns text
language sql stable set search_path from current as $$
    select string_agg(format('%s "%s" %s',
            case o.kind when 'compensation' then 'the undo of step' else 'step' end, line_name(o), case
            when o.status = 'SUSPENDED' then 'is suspended'
            when o.worker is not null then 'is running'
            when o.awaits = 'time' then 'waits for its time'
            when o.awaits = 'signal' then 'waits for a signal'
            when o.awaits = 'saga' then 'waits for a saga'
            when o.attempt > 0 or o.kind = 'reconcile' then 'waits for its next attempt'
            when o.status = 'CREATED' then 'has not begun'
            else 'is due' end), ', ' order by o.ordinal)
    from outbox o where (o.id = p_saga or o.root = p_saga) and o.awaits is distinct from 'lines'
$$;

-- What is wrong with the commands and those who run them: findings for the view health.
create or replace function health_of_commands()
returns table (severity text, finding text, subject text, detail text, remedy text)
language sql stable security definer set search_path from current set jit to off as $$
    with setting_now as (select s.stuck_after from setting s),
    -- By the index of what is due; a few, since a priority lets a command look older than it is.
    lag as (
        select d.type, d.version, head.lag, head.due
        from definition d
        cross join lateral (
            select clock() - min(greatest(o.due_at, o.moved_at)) as lag, count(*) as due
            from (
                select h.due_at, h.moved_at, h.id, h.root from outbox h
                where h.type = d.type and h.version = d.version and h.worker is null and h.status <> 'SUSPENDED'
                  and h.due_at <= (select clock()) order by h.due_at limit 100) as o
            where not is_paused(coalesce(o.root, o.id), d.type)) as head
        where head.lag is not null
    ),
    version_now as (
        select v.type, v.version, v.live, v.suspended, v.workers from live_versions v
    )
    select case when l.lag > (select n.stuck_after from setting_now n) then 'error' else 'warning' end, 'lag',
        format('%s version %s', l.type, l.version),
        format('the oldest due command has waited for %s', date_trunc('second', l.lag)),
        'Start more workers, or look what those that run are busy with: select * from running'
    from lag l where l.lag > '30 seconds'
    union all
    select 'error', 'no worker', null,
        format('no worker lives, and %s sagas do', sum(v.live)), 'Start one: bin/worker'
    from version_now v
    where not exists (select from worker w where w.expires_at > clock()) having sum(v.live) > 0
    union all
    select 'error', 'nobody runs this version', format('%s version %s', v.type, v.version),
        format('%s sagas of it live, and no live worker runs it', v.live),
        'Start a worker that has this version, or have them go on in another: bin/saga move'
    from version_now v
    where v.live > 0 and v.workers = 0 and exists (select from worker w where w.expires_at > clock())
    union all
    select 'warning', 'dead worker', format('%s pid %s', w.host, w.pid),
        format('its lease ended at %s', w.expires_at), 'Nothing, if it is gone soon: live workers take over what it held'
    from worker w where w.expires_at < clock() - w.lease
    union all
    select 'error', 'stuck', s.type, format('%s, the first for %s: %s', count(*),
            date_trunc('second', max(s.stuck_for)), (array_agg(s.why order by s.stuck_for desc))[1]),
        'select * from stuck'
    from stuck s group by s.type
    union all
    select 'warning', 'suspended', l.type, format('%s wait for a person, the first since %s', count(*), min(l.moved_at)),
        'select * from manual_intervention; then retry, skip, amend, abort or resolve'
    from live l where l.status = 'SUSPENDED' group by l.type
    union all
    select 'info', 'paused', coalesce(p.type || coalesce(' ' || p.key, ''), 'everything'),
        format('by %s since %s: %s', p.actor, p.since, p.note), 'bin/saga resume'
    from paused p
    union all
    select 'warning', 'schedule overdue', s.name, format('it was due at %s', s.next_tick),
        'A worker starts what is scheduled: see that one runs'
    from schedule s where not s.paused and s.next_tick < clock() - interval '1 minute'
$$;

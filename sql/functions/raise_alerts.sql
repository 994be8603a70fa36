-- Raises an alert for each stuck or suspended saga, once an episode (an episode is a saga at a seq),
-- and resolves those that are over. Both are events as well: alert.suspended, alert.stuck and
-- alert.resolved. Returns the new ones.
create or replace function raise_alerts()
returns table (saga_id uuid, kind text, type text, step text, attempt integer, message text)
language plpgsql security definer set search_path from current as $$
#variable_conflict use_column
declare
    v_now timestamptz := clock();
begin
    with resolved as (
        update alert a set resolved_at = v_now
        where a.resolved_at is null and not exists (
            select from outbox o where o.id = a.saga_id and o.seq = a.seq)
        returning a.*
    )
    insert into event (saga_id, seq, type, version, step, name, payload, at)
    select r.saga_id, r.seq, i.type, i.version, coalesce(last.step, o.step, ''), 'alert.resolved',
        json_build_object('alert', r.kind, 'message', r.message, 'raised_at', r.raised_at,
                          'status', coalesce(i.status, o.status::text)), v_now
    from resolved r
    join instance i on i.id = r.saga_id
    left join outbox o on o.id = r.saga_id
    left join lateral (
        select t.step from transition t where t.saga_id = r.saga_id and t.seq = r.seq) as last on true;
    return query
        with now_wrong as (
            select m.saga_id, 'suspended' as kind, m.type, m.version, m.step, m.attempts as attempt, m.seq, m.reason as message
            from manual_intervention m
            union all
            select s.saga_id, 'stuck', s.type, s.version, s.step, s.attempts, s.seq, s.why from stuck s
        ), raised as (
            insert into alert as a (saga_id, kind, seq, message, raised_at)
            select w.saga_id, w.kind, w.seq, w.message, v_now from now_wrong w
            on conflict on constraint alert_once_an_episode do nothing
            returning a.saga_id, a.kind
        ), told as (
            insert into event (saga_id, seq, type, version, step, name, payload, at)
            select w.saga_id, w.seq, w.type, w.version, w.step, 'alert.' || w.kind,
                json_build_object('alert', w.kind, 'message', w.message, 'attempt', w.attempt), v_now
            from raised r join now_wrong w on w.saga_id = r.saga_id and w.kind = r.kind
        )
        select w.saga_id, w.kind, w.type, w.step, w.attempt, w.message
        from raised r join now_wrong w on w.saga_id = r.saga_id and w.kind = r.kind;
end $$;

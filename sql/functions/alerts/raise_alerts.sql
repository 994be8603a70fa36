-- Raises an alert for each stuck or suspended line of a saga, once an episode (the line at the seq of its
-- last transition), and resolves those that are over. Both are events as well: alert.suspended,
-- alert.stuck and alert.resolved. Returns the new ones.
create or replace function raise_alerts()
returns table (saga_id uuid, kind text, type text, step text, attempt integer, message text)
language plpgsql security definer set search_path from current as $$
#variable_conflict use_column
declare
    v_now timestamptz := clock();
begin
    -- A paused saga may have ended: see saga_ends().
    if (select s.pauses from setting s) then
        perform 1 from setting for no key update;
        perform pauses_note();
    end if;
    return query
        with now_wrong as materialized (
            select m.saga_id, 'suspended' as kind, m.type, m.version, m.step, m.attempts as attempt, m.episode as seq,
                m.reason as message
            from manual_intervention m
            union all
            select s.saga_id, 'stuck', s.type, s.version, s.step, s.attempts, s.episode, s.why from stuck s
        ), over as (
            update alert a set resolved_at = v_now
            where a.resolved_at is null and not exists (
                select from now_wrong w where w.saga_id = a.saga_id and w.kind = a.kind and w.seq = a.seq)
            returning a.*
        ), told_over as (
            insert into event (saga_id, seq, type, version, step, name, payload, at)
            select r.saga_id, r.seq, i.type, i.version, coalesce(last.step, o.step, ''), 'alert.resolved',
                json_build_object('alert', r.kind, 'message', r.message, 'raised_at', r.raised_at,
                                  'status', coalesce(i.status, o.status::text)), v_now
            from over r
            join instance i on i.id = r.saga_id
            left join outbox o on o.id = r.saga_id
            left join lateral (
                select t.step from transition t where t.saga_id = r.saga_id and t.seq = r.seq) as last on true
        ), raised as (
            insert into alert as a (saga_id, kind, seq, message, raised_at)
            select distinct on (w.saga_id, w.kind, w.seq) w.saga_id, w.kind, w.seq, w.message, v_now from now_wrong w
            on conflict on constraint alert_once_an_episode do nothing
            returning a.saga_id, a.kind, a.seq
        ), news as materialized (
            select w.*
            from raised r
            cross join lateral (
                select * from now_wrong w
                where w.saga_id = r.saga_id and w.kind = r.kind and w.seq = r.seq limit 1) as w
        ), told as (
            insert into event (saga_id, seq, type, version, step, name, payload, at)
            select n.saga_id, n.seq, n.type, n.version, n.step, 'alert.' || n.kind,
                json_build_object('alert', n.kind, 'message', n.message, 'attempt', n.attempt), v_now
            from news n
        )
        select n.saga_id, n.kind, n.type, n.step, n.attempt, n.message from news n;
end $$;

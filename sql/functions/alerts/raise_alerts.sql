-- Raises an alert for each stuck or suspended line of a saga, once an episode (the line at the seq of its
-- last transition), and resolves those that are over. Both are events as well: alert.suspended,
-- alert.stuck and alert.resolved. Of many alike only some are told, with the number of the others
-- (setting.alert_most). Returns those that are told.
create or replace function raise_alerts()
returns table (saga_id uuid, kind text, type text, step text, attempt integer, message text)
language plpgsql security definer set search_path from current as $$
#variable_conflict use_column
declare
    v_now timestamptz := clock();
    v_most integer := (select s.alert_most from setting s);
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
            where r.told
        ), open as materialized (
            select i.type, a.kind, count(*) as many from alert a join instance i on i.id = a.saga_id
            where a.resolved_at is null and a.told group by i.type, a.kind
        ), fresh as materialized (
            select d.*, row_number() over alike as place, count(*) over (partition by d.type, d.kind) as many,
                case when v_most is null then 2147483647
                     else greatest(1, v_most - coalesce(o.many, 0)) end as room
            from (
                select distinct on (w.saga_id, w.kind, w.seq) w.* from now_wrong w
                where not exists (
                    select from alert a where a.saga_id = w.saga_id and a.kind = w.kind and a.seq = w.seq)) as d
            left join open o on o.type = d.type and o.kind = d.kind
            window alike as (partition by d.type, d.kind order by d.saga_id, d.seq)
        ), raised as (
            insert into alert as a (saga_id, kind, seq, message, raised_at, told)
            select f.saga_id, f.kind, f.seq, f.message, v_now, f.place <= f.room from fresh f
            on conflict on constraint alert_once_an_episode do nothing
            returning a.saga_id, a.kind, a.seq, a.told
        ), news as materialized (
            select f.saga_id, f.kind, f.type, f.version, f.step, f.attempt, f.seq,
                case when f.place = f.room and f.many > f.room then f.many - f.room end as others,
                f.message || case when f.place = f.room and f.many > f.room
                    then format(' (and %s more of %s)', f.many - f.room, f.type) else '' end as message
            from raised r
            cross join lateral (
                select * from fresh w
                where w.saga_id = r.saga_id and w.kind = r.kind and w.seq = r.seq) as f
            where r.told
        ), told as (
            insert into event (saga_id, seq, type, version, step, name, payload, at)
            select n.saga_id, n.seq, n.type, n.version, n.step, 'alert.' || n.kind,
                json_strip_nulls(json_build_object(
                    'alert', n.kind, 'message', n.message, 'attempt', n.attempt, 'others', n.others)), v_now
            from news n
        )
        select n.saga_id, n.kind, n.type, n.step, n.attempt, n.message from news n;
end $$;

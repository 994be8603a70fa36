-- Raises an alert for each type that lags, or of which too few sagas complete, once an episode, and
-- resolves those that are over. Both are events as well: alert.lag, alert.completion_rate and
-- alert.resolved, of a saga whose id is all zeros. Returns the new ones.
create or replace function raise_type_alerts()
returns table (kind text, type text, message text)
language plpgsql security definer set search_path from current as $$
#variable_conflict use_column
declare
    v_now timestamptz := clock();
    v_setting setting;
    v_nobody constant uuid := '00000000-0000-0000-0000-000000000000';
begin
    select * into v_setting from setting;
    return query
        with now_wrong as materialized (
            select 'lag' as kind, d.type, format('a command of %s has been due since %s', d.type, min(o.since)) as message
            from definition d
            -- The first of them by due_at; a priority lets that be earlier than the command itself.
            cross join lateral (
                select greatest(b.due_at, b.moved_at) as since from outbox b
                where b.type = d.type and b.version = d.version and b.worker is null and b.status <> 'SUSPENDED'
                  and b.due_at < v_now - v_setting.alert_lag
                  and not (v_setting.pauses and is_paused(coalesce(b.root, b.id), b.type))
                order by b.due_at limit 1000) as o
            where o.since < v_now - v_setting.alert_lag
            group by d.type
            union all
            select 'completion_rate', i.type,
                format('of %s sagas of %s that were started in %s and ended, %s completed',
                       count(*), i.type, v_setting.alert_window, count(*) filter (where i.status = 'COMPLETED'))
            from instance i
            where v_setting.alert_completion_rate is not null
              and i.id >= first_id_at(v_now - v_setting.alert_window) and i.status is not null
            group by i.type
            having count(*) >= v_setting.alert_least
               and count(*) filter (where i.status = 'COMPLETED') < v_setting.alert_completion_rate * count(*)
        ), over as (
            update type_alert a set resolved_at = v_now
            where a.resolved_at is null
              and not exists (select from now_wrong w where w.type = a.type and w.kind = a.kind)
            returning a.*
        ), raised as (
            insert into type_alert as a (type, kind, message, raised_at)
            select w.type, w.kind, w.message, v_now from now_wrong w
            on conflict (type, kind) where resolved_at is null do nothing
            returning a.type, a.kind, a.message
        ), told as (
            insert into event (saga_id, seq, type, version, step, name, payload, at)
            select v_nobody, 0, r.type, 0, '', 'alert.' || r.kind,
                json_build_object('alert', r.kind, 'message', r.message), v_now
            from raised r
            union all
            select v_nobody, 0, o.type, 0, '', 'alert.resolved',
                json_build_object('alert', o.kind, 'message', o.message, 'raised_at', o.raised_at), v_now
            from over o
        )
        select r.kind, r.type, r.message from raised r;
end $$;
comment on function raise_type_alerts is 'Alerts of whole types: lag and completion rate; see setting.alert_….';

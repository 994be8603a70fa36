-- Raises an alert for each stuck or suspended line of a saga, once an episode (the line at the seq of its
-- last transition), and resolves those that are over. Returns the new ones.
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
            select m.saga_id, 'suspended' as kind, m.type, m.step, m.attempts as attempt, m.episode as seq, m.reason as message
            from manual_intervention m
            union all
            select s.saga_id, 'stuck', s.type, s.step, s.attempts, s.episode, s.why from stuck s
        ), over as (
            update alert a set resolved_at = v_now
            where a.resolved_at is null and not exists (
                select from now_wrong w where w.saga_id = a.saga_id and w.kind = a.kind and w.seq = a.seq)
        ), raised as (
            insert into alert as a (saga_id, kind, seq, message, raised_at)
            select distinct on (w.saga_id, w.kind, w.seq) w.saga_id, w.kind, w.seq, w.message, v_now from now_wrong w
            on conflict on constraint alert_once_an_episode do nothing
            returning a.saga_id, a.kind, a.seq
        )
        select w.saga_id, w.kind, w.type, w.step, w.attempt, w.message
        from raised r
        cross join lateral (
            select * from now_wrong w where w.saga_id = r.saga_id and w.kind = r.kind and w.seq = r.seq limit 1) as w;
end $$;

-- Counts anew what the limits of a type count, after they have changed. The caller holds the gate, so
-- nothing is let in meanwhile; nothing else is waited for, so that nobody waits for anybody in a ring:
-- what ends or begins to wait just now, in a transaction that knows nothing of this count, is put right
-- by the next sweep. Sweeps are made until those transactions have ended, and what ran uncounted before.
create or replace function sweep_gate(p_type text, p_now timestamptz) returns void
language plpgsql set search_path from current as $$
declare
    v_idle uuid[];
    v_told uuid[];
begin
    insert into ticket (saga_id, type, version, state, fresh, rank, untold)
    select coalesce(o.root, o.id), o.type, o.version, 'running', false, min(o.moved_at), true
    from outbox o
    where o.worker is not null and o.type = p_type
      and not exists (select from ticket t where t.saga_id = coalesce(o.root, o.id))
    group by 1, 2, 3
    on conflict (saga_id) do nothing;

    delete from ticket t where t.saga_id = any (array(
        select g.saga_id from ticket g
        where g.type = p_type and g.state <> 'queued' and not exists (select from outbox o where o.id = g.saga_id)
        for update skip locked));
    with given as (
        delete from slot s
        where s.type = p_type and not exists (select from ticket t where t.saga_id = s.saga_id)
          and s.ctid = any (array(select l.ctid from slot l where l.type = p_type for update skip locked))
        returning s.type, s.name, s.key
    )
    insert into knock (type, name, key)
    select g.type, case when g.key <> '' then g.name end, nullif(g.key, '') from given g;

    insert into slot (type, name, key, saga_id)
    select t.type, l.name, limit_key(i.input, l.path), t.saga_id
    from ticket t
    join instance i on i.id = t.saga_id
    join saga_limit l on l.type = t.type and l.amount is not null and l.per is null
    where t.type = p_type and t.state <> 'queued' and limit_key(i.input, l.path) is not null
      and (t.state = 'running' or l.counts_waiting)
      -- An insert would wait for whoever removes the one that is there.
      and not exists (
          select from slot s
          where s.type = t.type and s.name = l.name and s.key = limit_key(i.input, l.path) and s.saga_id = t.saga_id)
    order by 1, 2, 3, 4
    on conflict do nothing;

    -- From now on somebody tells of those that nobody holds.
    v_told := array(
        select o.id from ticket t
        cross join lateral (
            select b.id from outbox b where b.id = t.saga_id and b.worker is null for no key update skip locked) as o
        where t.type = p_type and t.state <> 'queued' and t.untold);
    update outbox o set tail = true where o.id = any (v_told) and not o.tail;
    update ticket t set untold = false where t.saga_id = any (v_told);
    v_idle := array(
        select t.saga_id from ticket t
        where t.saga_id = any (v_told) and t.state = 'running' and saga_idles(t.saga_id));
    perform keep_slots(i) from unnest(v_idle) as i;

    update gate g
    set swept_at = case when s.settled then null else p_now end,
        settles_at = case when s.settled then null else coalesce(g.settles_at, pg_snapshot_xmax(pg_current_snapshot())) end
    from (
        select coalesce(c.settles_at < pg_snapshot_xmin(pg_current_snapshot()) and p_now > c.changed_at + interval '5 seconds'
            and not exists (select from ticket t where t.type = p_type and t.state <> 'queued' and t.untold), false) as settled
        from gate c where c.type = p_type) as s
    where g.type = p_type;
end $$;

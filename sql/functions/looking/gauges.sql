-- What there is right now, as metrics: a name, labels and a value each; see docs/metrics.md. Reads only
-- live sagas, so it costs what they are many.
create or replace function gauges()
returns table (name text, labels jsonb, value double precision)
language plpgsql stable security definer set search_path from current as $$
#variable_conflict use_column
declare
    v_now timestamptz := clock();
begin
    return query
        with line as materialized (
            select o.type, o.root is null as is_main, o.status::text as status, o.due_at, o.moved_at,
                case when o.status = 'SUSPENDED' then 'suspended'
                     when o.worker is not null then 'claimed'
                     when o.awaits = 'lines' then null
                     when o.awaits is not null and o.due_at > v_now then 'waiting'
                     when o.due_at > v_now then 'delayed' else 'due' end as standing
            from outbox o
        )
        select 'live_sagas', jsonb_build_object('type', l.type, 'status', l.status), count(*)::float8
        from line l where l.is_main group by l.type, l.status
        union all
        select 'commands', jsonb_build_object('type', l.type, 'standing', l.standing), count(*)::float8
        from line l where l.standing is not null group by l.type, l.standing
        union all
        select 'oldest_due_seconds', jsonb_build_object('type', l.type),
            extract(epoch from v_now - min(greatest(l.due_at, l.moved_at)))::float8
        from line l where l.standing = 'due' group by l.type;
    return query
        select 'suspended_sagas', jsonb_build_object('type', m.type), count(distinct m.saga_id)::float8
        from manual_intervention m group by m.type
        union all
        select 'stuck_sagas', jsonb_build_object('type', s.type), count(distinct s.saga_id)::float8
        from stuck s group by s.type
        union all
        select 'workers', jsonb_build_object('state', w.state), count(*)::float8
        from (select case when w.expires_at <= v_now then 'dead' when w.draining then 'draining'
                          when w.idle then 'idle' else 'busy' end as state from worker w) as w
        group by w.state
        union all
        select 'deliveries', jsonb_build_object('subscription', d.subscription, 'standing', d.status),
            count(*)::float8
        from delivery d where d.status in ('waiting', 'dead') group by d.subscription, d.status
        union all
        select 'open_alerts', jsonb_build_object('kind', a.kind), count(*)::float8
        from (select a.kind from alert a where a.resolved_at is null
              union all select a.kind from type_alert a where a.resolved_at is null) as a
        group by a.kind
        union all
        select 'limit_taken', jsonb_build_object('type', l.type, 'name', l.name), l.taken::float8 from limits l
        union all
        select 'limit_amount', jsonb_build_object('type', l.type, 'name', l.name), l.amount::float8 from limits l
        union all
        select 'dead_rows', jsonb_build_object('table', t.relname), t.n_dead_tup::float8
        from pg_stat_user_tables t
        where t.schemaname = current_schema() and t.relname in ('outbox', 'instance', 'transition', 'worker')
        union all
        select 'oldest_snapshot_seconds', '{}'::jsonb,
            coalesce(max(extract(epoch from clock_timestamp() - a.xact_start)), 0)::float8
        from pg_stat_activity a where a.backend_xmin is not null and a.pid <> pg_backend_pid();
end $$;
comment on function gauges is 'What there is right now, as metrics: name, labels, value.';

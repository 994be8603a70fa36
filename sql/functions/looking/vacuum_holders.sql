-- Who keeps vacuum from removing dead rows: sessions whose transaction is older than p_age, transactions that
-- were prepared so long ago, and replication slots and standbys whose oldest is p_transactions behind. Of the
-- sessions of other roles Postgres tells only what it may: see pg_read_all_stats.
create or replace function vacuum_holders(
    p_age interval default '1 minute', p_transactions integer default 100000)
returns table (kind text, name text, age interval, transactions integer, detail text, remedy text)
language sql stable security definer set search_path from current as $$
    select 'session', format('pid %s', a.pid), clock() - a.xact_start, age(coalesce(a.backend_xmin, a.backend_xid)),
        format('%s of user %s is %s since %s, its transaction began at %s',
            coalesce(nullif(a.application_name, ''), 'a session'), a.usename, a.state, a.state_change, a.xact_start),
        format('End its transaction, or the session: select pg_terminate_backend(%s)', a.pid)
    from pg_stat_activity a
    where a.datname = current_database() and a.backend_type <> 'autovacuum worker' and a.backend_type <> 'walsender'
      and (a.backend_xmin is not null or a.backend_xid is not null)
      and a.xact_start < clock() - p_age and a.pid <> pg_backend_pid()
    union all
    select 'prepared transaction', p.gid, clock() - p.prepared, age(p.transaction),
        format('prepared by %s at %s', p.owner, p.prepared),
        format('commit prepared %L, or rollback prepared %L', p.gid, p.gid)
    from pg_prepared_xacts p
    where p.database = current_database() and p.prepared < clock() - p_age
    union all
    select 'replication slot', s.slot_name, null, greatest(age(s.xmin), age(s.catalog_xmin)),
        format('a %s slot, %s', s.slot_type, case when s.active then 'in use' else 'used by nobody' end),
        case when s.active then 'See why its reader is behind'
            else format('If nobody needs it: select pg_drop_replication_slot(%L)', s.slot_name) end
    from pg_replication_slots s
    where (s.database is null or s.database = current_database())
      and greatest(age(s.xmin), age(s.catalog_xmin)) > p_transactions
    union all
    select 'standby', coalesce(nullif(r.application_name, ''), format('pid %s', r.pid)), null, age(r.backend_xmin),
        format('at %s, its feedback holds rows for the queries that it runs', coalesce(r.client_addr::text, 'the local socket')),
        'End the long query on the standby, or set hot_standby_feedback = off there'
    from pg_stat_replication r where age(r.backend_xmin) > p_transactions
$$;
comment on function vacuum_holders is 'Who keeps vacuum from removing dead rows: select * from saga.vacuum_holders()';

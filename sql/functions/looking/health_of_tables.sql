-- What is wrong with the tables: dead rows, and who keeps vacuum from removing them. Findings for the view
-- health.
create or replace function health_of_tables()
returns table (severity text, finding text, subject text, detail text, remedy text)
language sql stable security definer set search_path from current as $$
    select case when h.age > '15 minutes' or h.transactions > 10000000 then 'error' else 'warning' end,
        'vacuum is held back', format('%s %s', h.kind, h.name),
        concat_ws('; ', h.detail, format('%s transactions ago', h.transactions)), h.remedy
    from vacuum_holders() as h
    union all
    select 'warning', 'dead rows', t.relname::text,
        format('%s dead rows beside %s live ones, last vacuumed %s', t.n_dead_tup, t.n_live_tup,
            coalesce(greatest(t.last_autovacuum, t.last_vacuum)::text, 'never')),
        case when exists (select from vacuum_holders())
            then 'Vacuum cannot remove them: see who holds it back'
            else format('See that autovacuum runs (show autovacuum), or: vacuum %I.%I', t.schemaname, t.relname) end
    from pg_stat_user_tables t
    where t.schemaname = current_schema() and t.n_dead_tup > 50000 and t.n_dead_tup > t.n_live_tup
      and t.relname in ('outbox', 'instance', 'worker', 'ticket', 'slot', 'lane', 'pgqueuer')
$$;

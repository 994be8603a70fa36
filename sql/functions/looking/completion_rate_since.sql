-- What became of the sagas that were started lately, by type and bucket of their start. rate: of those that
-- came to something (completed, failed, or stopped for a person) the part that completed; null: none has.
create or replace function completion_rate_since(
    p_since interval, p_type text default null, p_bucket interval default '1 hour')
returns table (
    type text, started_at timestamptz, started bigint, completed bigint, failed bigint, suspended bigint,
    live bigint, rate numeric)
language sql stable security definer set search_path from current set enable_seqscan to off set jit to off as $$
    select g.type, g.bucket, g.started, g.completed, g.failed, coalesce(s.suspended, 0),
        g.started - g.completed - g.failed,
        round(g.completed::numeric / nullif(g.completed + g.failed + coalesce(s.suspended, 0), 0), 6)
    from (
        select i.type, date_bin(p_bucket, i.created_at, '2000-01-01') as bucket, count(*) as started,
            count(*) filter (where i.status = 'COMPLETED') as completed,
            count(*) filter (where i.status = 'FAILED') as failed
        from instance i
        where i.id >= (select first_id_at(clock() - p_since)) and (p_type is null or i.type = p_type)
        group by 1, 2) as g
    left join (
        select i.type, date_bin(p_bucket, i.created_at, '2000-01-01') as bucket, count(*) as suspended
        from live l join instance i on i.id = l.saga_id
        where l.status = 'SUSPENDED' and i.id >= (select first_id_at(clock() - p_since))
          and (p_type is null or i.type = p_type)
        group by 1, 2) as s on s.type = g.type and s.bucket = g.bucket
    order by 1, 2
$$;
comment on function completion_rate_since is 'What became of the sagas started lately, by type and time of start: select * from saga.completion_rate_since(''7 days'')';

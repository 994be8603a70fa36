-- As latency_since(), one row for each bucket of time as well, for a chart.
create or replace function latency_over(p_since interval, p_bucket interval, p_type text default null)
returns table (
    at timestamptz, type text, step text, kind text, attempts bigint, p50 real, p95 real, p99 real,
    errors bigint, retries bigint)
language sql stable security definer set search_path from current set jit to off as $$
    select date_bin(p_bucket, a.at, '2000-01-01'), a.type, a.step, a.kind, count(*),
        (percentile_cont(0.5) within group (order by a.took))::real,
        (percentile_cont(0.95) within group (order by a.took))::real,
        (percentile_cont(0.99) within group (order by a.took))::real,
        count(*) filter (where a.error is not null), count(*) filter (where a.again)
    from attempts_since(p_since, p_type) as a
    group by 1, 2, 3, 4 order by 1, 2, 3, 4
$$;
comment on function latency_over is 'How long each step took, over time: select * from saga.latency_over(''1 day'', ''1 hour'', ''payment'')';

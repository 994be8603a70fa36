-- How long the attempts of each step took lately, in seconds, and how many of them went wrong. retries:
-- those that another one followed.
create or replace function latency_since(p_since interval, p_type text default null)
returns table (
    type text, step text, kind text, attempts bigint, p50 real, p95 real, p99 real, errors bigint, retries bigint)
language sql stable security definer set search_path from current set jit to off as $$
    select a.type, a.step, a.kind, count(*),
        (percentile_cont(0.5) within group (order by a.took))::real,
        (percentile_cont(0.95) within group (order by a.took))::real,
        (percentile_cont(0.99) within group (order by a.took))::real,
        count(*) filter (where a.error is not null), count(*) filter (where a.again)
    from attempts_since(p_since, p_type) as a
    group by 1, 2, 3 order by 1, 2, 3
$$;
comment on function latency_since is 'How long each step took lately, in seconds: select * from saga.latency_since(''10 minutes'', ''payment'')';

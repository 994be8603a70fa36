-- What each type did in a short while: sagas started and ended, and what their steps came to.
create or replace function throughput_since(p_since interval)
returns table (
    type text, started bigint, completed bigint, failed bigint, transitions bigint, retries bigint, errors bigint)
language sql stable security definer set search_path from current set enable_seqscan to off set jit to off as $$
    with window_of_time as (select clock() - p_since as begins),
    moved as (
        select i.type,
            count(*) filter (where t.to_status = 'COMPLETED' and t.from_status <> 'COMPLETED') as completed,
            count(*) filter (where t.to_status = 'FAILED') as failed,
            count(*) as transitions,
            count(*) filter (where t.error is not null and t.due_at is not null and t.to_status = t.from_status)
                as retries,
            count(*) filter (where t.error is not null and t.kind <> 'act') as errors
        from (
            select t.* from transition t
            where t.at > (select w.begins from window_of_time w) offset 0) as t
        cross join lateral (select n.type from instance n where n.id = t.saga_id offset 0) as i
        group by 1
    ),
    born as (
        select i.type, count(*) as started from instance i
        where i.id >= first_id_at((select w.begins from window_of_time w)) group by 1
    )
    select coalesce(m.type, b.type), coalesce(b.started, 0), coalesce(m.completed, 0), coalesce(m.failed, 0),
        coalesce(m.transitions, 0), coalesce(m.retries, 0), coalesce(m.errors, 0)
    from moved m full join born b on b.type = m.type
    order by 1
$$;
comment on function throughput_since is 'What each type did in a short while: select * from saga.throughput_since(''10 seconds'')';

-- How many sagas ended lately, by type and how.
create or replace function ended_since(p_since interval)
returns table (type text, status text, sagas bigint)
language sql stable security definer set search_path from current set enable_seqscan to off set jit to off as $$
    select i.type, t.to_status::text, count(distinct t.saga_id)
    from (
        select t.* from transition t
        where t.at > (select clock() - p_since) and t.to_status in ('COMPLETED', 'FAILED') offset 0) as t
    cross join lateral (
        select n.type from instance n where n.id = t.saga_id and n.status = t.to_status offset 0) as i
    group by 1, 2 order by 1, 2
$$;
comment on function ended_since is 'How many sagas ended lately, by type and status: select * from saga.ended_since(''1 hour'')';

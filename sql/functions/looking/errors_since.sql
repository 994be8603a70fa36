-- The errors that attempts met lately, those alike as one row; example is the saga that met it last. A text
-- counts by its first 200 characters.
create or replace function errors_since(p_since interval, p_type text default null)
returns table (
    type text, step text, kind text, error text, message text, count bigint, sagas bigint,
    first_seen timestamptz, last_seen timestamptz, example uuid)
language sql stable security definer set search_path from current set enable_seqscan to off set jit to off as $$
    select i.type, t.step, t.kind::text, t.error ->> 'type', left(t.error ->> 'message', 200), count(*),
        count(distinct t.saga_id), min(t.at), max(t.at), (array_agg(t.saga_id order by t.at desc))[1]
    from (
        select t.* from transition t
        where t.at > (select clock() - p_since) and t.kind <> 'act' and t.error is not null offset 0) as t
    cross join lateral (select n.type from instance n where n.id = t.saga_id offset 0) as i
    where p_type is null or i.type = p_type
    group by 1, 2, 3, 4, 5
    order by count(*) desc, max(t.at) desc
$$;
comment on function errors_since is 'The errors that steps met lately, grouped: select * from saga.errors_since(''7 days'', ''payment'')';

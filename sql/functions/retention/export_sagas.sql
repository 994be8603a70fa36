-- Finished sagas that ended before an instant, in the order of their ids, each as one JSON object with
-- all that is known of it. p_after is the last id of the batch before.
create or replace function export_sagas(
    p_before timestamptz, p_type text default null, p_limit integer default 500, p_after uuid default null)
returns table (id uuid, saga json)
language sql stable security definer set search_path from current as $$
    select i.id, json_build_object(
        'instance', to_jsonb(i),
        'transitions', (
            select json_agg(t order by t.seq) from transition t where t.saga_id = i.id),
        'acts', (select json_agg(a order by a.seq) from act a where a.saga_id = i.id),
        'signals', (select json_agg(s order by s.number) from signal s where s.saga_id = i.id),
        'events', (select json_agg(e order by e.number) from event e where e.saga_id = i.id),
        'parent', (select c.parent from child c where c.saga_id = i.id))
    from (
        select n.* from instance n
        where n.id < first_id_at(p_before) and (p_after is null or n.id > p_after)
          and (p_type is null or n.type = p_type) and n.ended_at < p_before
        order by n.id limit p_limit) as i
    order by i.id
$$;
comment on function export_sagas is 'Finished sagas with all that is known of them, as JSON; see bin/saga export.';

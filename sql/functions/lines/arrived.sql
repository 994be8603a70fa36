-- What a command that waited has been waiting for, as JSON; null: it has not come.
create or replace function arrived(p_line outbox) returns json
language sql stable set search_path from current as $$
    select case (p_line).awaits
        when 'time' then '{}'
        when 'signal' then (
            select json_build_object('payload', g.payload, 'key', g.key, 'from', g.actor)
            from signal g
            where g.saga_id = coalesce((p_line).root, (p_line).id) and g.ordinal = (p_line).ordinal
            order by g.number desc limit 1)
        when 'saga' then (
            select json_build_object(
                'saga_id', i.id, 'status', coalesce(i.status, 'LIVE'), 'output', i.output, 'error', i.error)
            from child c join instance i on i.id = c.saga_id
            where c.parent = coalesce((p_line).root, (p_line).id)
              and c.ordinal = coalesce((p_line).undoes, (p_line).ordinal)
            order by c.saga_id desc limit 1)
    end
$$;

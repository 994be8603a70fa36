-- What a worker needs to run the commands that it has claimed, oldest due first.
create or replace function handed(p_commands uuid[])
returns table (
    command uuid, fence integer, seq integer, type text, version integer, key text, kind text,
    step text, ordinal integer, attempt integer, revision integer, in_doubt boolean,
    input jsonb, results json, error jsonb, due_at timestamptz,
    root uuid, element integer, awaits text, arrived json)
language plpgsql set search_path from current as $$
#variable_conflict use_column
begin
    return query
        select o.id, o.fence, o.seq, o.type, o.version, i.key, o.kind::text, o.step, o.ordinal,
            o.attempt + 1, o.revision, o.doubt_until is not null, i.input, past.results, past.error, o.due_at,
            o.root, o.element, o.awaits::text, case when o.awaits is not null then arrived(o) end
        from outbox o
        cross join lateral (
            select n.id, n.key, n.input from instance n where n.id = coalesce(o.root, o.id) offset 0) as i
        left join lateral (
            -- Of an element under "step/place", the elements themselves under "step/". An amended result
            -- comes later, and counts.
            select json_object_agg(
                       case when t.outcome = 'waiting' then t.step || '/'
                            when t.element is null then t.step else t.step || '/' || t.element end, t.result order by t.seq)
                       filter (where (t.kind <> 'compensation' and t.outcome = 'done')
                                  or (t.kind = 'act' and t.result is not null)
                                  or (t.outcome = 'waiting' and json_typeof(t.result) = 'array'))
                       as results,
                   (array_agg(t.error order by t.seq desc) filter (where t.error is not null))[1] as error
            from transition t where t.saga_id = i.id and (o.seq > 0 or o.root is not null)) as past on true
        where o.id = any (p_commands)
        order by o.due_at;
end $$;

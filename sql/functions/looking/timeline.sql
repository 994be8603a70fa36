-- What happened to a saga, named by its id or its key.
create or replace function timeline(p_saga text)
returns table (seq integer, at timestamptz, after interval, what text, state text, took interval, error text,
    result json, next_due timestamptz, worker uuid)
language plpgsql stable set search_path from current as $$
#variable_conflict use_column
declare
    v_ids uuid[];
begin
    if p_saga ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
        v_ids := array(select o.saga_id from overview o where o.saga_id = p_saga::uuid);
    end if;
    if coalesce(cardinality(v_ids), 0) = 0 then
        v_ids := array(select f.saga_id from find_sagas(jsonb_build_object('key', p_saga), null, 10) as f);
    end if;
    if cardinality(v_ids) = 0 then
        raise exception 'no saga has the id or key "%"', left(p_saga, 80) using errcode = 'SG004';
    elsif cardinality(v_ids) > 1 then
        raise exception 'several sagas have the key "%", name one by its id', left(p_saga, 80)
            using errcode = 'SG002', hint = array_to_string(v_ids, ', ');
    end if;
    return query
        select t.seq, t.at, t.after, t.what, t.state, t.took, t.error, t.result, t.next_due, t.worker
        from timeline t where t.saga_id = v_ids[1] order by t.seq, t.at;
end $$;
comment on function timeline is 'What happened to a saga, by its id or key: select * from saga.timeline(''order-42'')';

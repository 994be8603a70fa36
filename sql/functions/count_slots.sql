-- Counts anew what the limits of a type count. The caller holds its gate, so that nothing is let in
-- meanwhile; here all of its sagas are locked, so that none begins or ends.
create or replace function count_slots(p_type text) returns void
language plpgsql set search_path from current as $$
begin
    perform 1 from outbox o
    where o.type = p_type and o.root is null order by o.id for no key update;
    insert into ticket (saga_id, type, version, state, fresh, rank)
    select o.id, o.type, o.version, case when saga_idles(o.id) then 'waiting' else 'running' end, false, o.moved_at
    from outbox o where o.type = p_type and o.root is null and o.status <> 'CREATED'
    on conflict (saga_id) do nothing;
    update outbox o set tail = true
    where o.type = p_type and o.root is null and o.status <> 'CREATED' and not o.tail;
    delete from slot s where s.type = p_type;
    insert into slot (type, name, key, saga_id)
    select t.type, l.name, limit_key(i.input, l.path), t.saga_id
    from ticket t
    join instance i on i.id = t.saga_id
    join saga_limit l on l.type = t.type and l.amount is not null and l.per is null
    where t.type = p_type and limit_key(i.input, l.path) is not null
      and (t.state = 'running' or (l.counts_waiting and not t.fresh));
end $$;

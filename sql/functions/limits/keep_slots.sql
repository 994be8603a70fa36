-- A saga of a type with limits has moved: if all of it waits now, it gives back the slots that are not
-- counted while it waits, or leaves the queue for them, and queues once something of it is due. The
-- caller holds its lines.
create or replace function keep_slots(p_saga uuid) returns void
language plpgsql set search_path from current as $$
begin
    if exists (select from ticket t where t.saga_id = p_saga and t.state = 'running')
        and exists (
            select from slot s join saga_limit l on l.type = s.type and l.name = s.name
            where s.saga_id = p_saga and not l.counts_waiting)
        and saga_idles(p_saga)
    then
        update ticket set state = 'waiting' where saga_id = p_saga;
        perform give_slots_back(p_saga, false);
    elsif exists (select from ticket t where t.saga_id = p_saga and t.state = 'queued' and not t.fresh)
        and saga_idles(p_saga)
        -- What is parked waits for its slot alone, unless it was suspended since.
        and not exists (
            select from ticket t join outbox o on o.id = any (t.parked)
            where t.saga_id = p_saga and o.status <> 'SUSPENDED' and o.due_at = 'infinity')
    then
        update ticket set state = 'waiting', blocked = null where saga_id = p_saga;
    end if;
end $$;

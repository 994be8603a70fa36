-- A limit is no more: its slots go; and with the type's last one its gate and its queue. The caller
-- holds the gate. What somebody has locked belongs to a saga that ends, and goes with it.
create or replace function open_gate(p_type text, p_name text) returns void
language plpgsql set search_path from current as $$
declare
    v_parked uuid[];
begin
    if exists (select from saga_limit where type = p_type and amount is not null) then
        perform drop_slots(p_type, p_name);
        insert into knock (type, name) values (p_type, p_name);
    else
        v_parked := array(select unnest(t.parked) from ticket t where t.type = p_type);
        perform 1 from outbox where id = any (v_parked) order by id for no key update;
        update outbox o set due_at = clock()
        where o.id = any (v_parked) and o.due_at = 'infinity' and o.awaits is distinct from 'lines';
        delete from ticket t where t.type = p_type and t.ctid = any (array(
            select u.ctid from ticket u where u.type = p_type for update skip locked));
        perform drop_slots(p_type, null);
        delete from knock where type = p_type;
        delete from gate where type = p_type;
    end if;
    delete from rate_use where type = p_type and name = p_name;
    perform wake(p_type);
end $$;

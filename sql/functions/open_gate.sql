-- A limit is no more: its slots go; and with the type's last one its gate and its queue. The caller
-- holds the gate.
create or replace function open_gate(p_type text, p_name text) returns void
language plpgsql set search_path from current as $$
begin
    perform 1 from outbox where type = p_type order by id for no key update;
    delete from slot where type = p_type and name = p_name;
    delete from rate_use where type = p_type and name = p_name;
    if exists (select from saga_limit where type = p_type and amount is not null) then
        insert into knock (type, name) values (p_type, p_name);
    else
        update outbox o set due_at = clock()
        where o.id = any (array(select unnest(t.parked) from ticket t where t.type = p_type))
          and o.due_at = 'infinity' and o.awaits is distinct from 'lines';
        delete from ticket where type = p_type;
        delete from knock where type = p_type;
        delete from gate where type = p_type;
    end if;
    perform wake(p_type);
end $$;

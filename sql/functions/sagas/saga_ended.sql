-- Tells whoever waits for a saga that it has ended: its parent's line, and the limits that counted it.
create or replace function saga_ended(p_main outbox, p_now timestamptz)
returns void language plpgsql set search_path from current as $$
declare
    v_type text;
begin
    update outbox o set due_at = p_now
    from child c
    where c.saga_id = (p_main).id and o.id = c.line and o.awaits = 'saga'
    returning o.type into v_type;
    if found then
        perform wake(v_type);
    end if;
    delete from ticket where saga_id = (p_main).id;
    if found then
        perform give_slots_back((p_main).id, true);
    end if;
end $$;

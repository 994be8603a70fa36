-- The input of a saga of a type with limits has changed: slots at keys that are its own no more are given
-- back, and it queues for those at its new keys before anything of it goes on. The caller holds its lines.
create or replace function count_amended(p_saga uuid, p_old jsonb, p_new jsonb) returns void
language plpgsql set search_path from current as $$
declare
    v_ticket ticket;
    v_changed saga_limit[];
begin
    select * into v_ticket from ticket where saga_id = p_saga;
    v_changed := array(
        select l from saga_limit l
        where l.type = v_ticket.type and l.amount is not null and l.per is null
          and limit_key(p_old, l.path) is distinct from limit_key(p_new, l.path));
    if cardinality(v_changed) = 0 then
        return;
    end if;
    update ticket set blocked = null, state = case state when 'queued' then 'queued' else 'waiting' end
    where saga_id = p_saga;
    delete from slot s using unnest(v_changed) as l where s.saga_id = p_saga and s.type = l.type and s.name = l.name;
    -- Also where it queued: what stands behind it may have been passed over for its sake.
    insert into knock (type, name, key)
    select l.type, l.name, limit_key(p_old, l.path) from unnest(v_changed) as l
    where limit_key(p_old, l.path) is not null;
    insert into knock (type, version) values (v_ticket.type, v_ticket.version);
    perform wake(v_ticket.type);
end $$;

-- Locks all that an outcome of these lines may change: their sagas' lines, the lines that wait for
-- these sagas, and their sub-sagas; in id order, the one order in which outbox rows are locked.
create or replace function lock_sagas(p_lines uuid[]) returns void
language plpgsql set search_path from current as $$
declare
    v_sagas uuid[] := array(select distinct coalesce(o.root, o.id) from outbox o where o.id = any (p_lines));
begin
    perform 1 from outbox
    where id = any (array(
        select unnest(v_sagas)
        union select o.id from outbox o where o.root = any (v_sagas)
        union select c.line from child c where c.saga_id = any (v_sagas)
        union select c.saga_id from child c where c.parent = any (v_sagas)
        union select o.id from child c join outbox o on o.root = c.saga_id where c.parent = any (v_sagas)))
    order by id for no key update;
end $$;

-- As lock_sagas() of one saga, but waits for nobody: whether all of it could be locked. For sweeps, which hold
-- rows in no order.
create or replace function try_saga(p_saga uuid) returns boolean
language plpgsql set search_path from current as $$
declare
    v_locked uuid[];
begin
    v_locked := array(
        select o.id from outbox o
        where o.id = any (array(select f.id from family_of(array[p_saga]) as f))
        order by o.id for no key update skip locked);
    return not exists (
        select from family_of(array[p_saga]) as f
        join outbox o on o.id = f.id where o.id <> all (v_locked));
end $$;

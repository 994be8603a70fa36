-- Locks all that an outcome of these lines may change: see family_of(); in id order, the one order in which
-- outbox rows are locked. Lines that somebody began who was waited for here are not among what was
-- looked for, and would be claimed while the caller moves them: they are locked afterwards. They are
-- newer than nearly all else, and who holds one waits for nothing older.
create or replace function lock_sagas(p_lines uuid[]) returns void
language plpgsql set search_path from current as $$
declare
    v_sagas uuid[] := array(select distinct coalesce(o.root, o.id) from outbox o where o.id = any (p_lines));
    v_locked uuid[] := '{}';
    v_found uuid[];
begin
    loop
        v_found := array(select f.id from family_of(v_sagas) as f where f.id <> all (v_locked));
        exit when v_found = '{}';
        perform 1 from outbox where id = any (v_found) order by id for no key update;
        v_locked := v_locked || v_found;
    end loop;
end $$;

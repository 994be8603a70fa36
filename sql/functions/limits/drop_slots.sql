-- Removes what a limit of a type has counted, or, without a name, all of them; but for what somebody
-- gives back just now.
create or replace function drop_slots(p_type text, p_name text) returns void
language sql set search_path from current as $$
    delete from slot where type = p_type and ctid = any (array(
        select s.ctid from slot s where s.type = p_type and s.name = coalesce(p_name, s.name) for update skip locked))
$$;

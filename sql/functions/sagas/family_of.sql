-- All rows of outbox that moving these sagas may change: their lines, the lines that wait for them, and their
-- sub-sagas with their lines; and some that are there no more. Without a SET clause, so that it is inlined
-- into its callers, which pin their search_path.
create or replace function family_of(p_sagas uuid[]) returns table (id uuid)
language sql stable as $$
    select unnest(p_sagas)
    union select o.id from outbox o where o.root = any (p_sagas)
    union select c.line from child c where c.saga_id = any (p_sagas)
    union select c.saga_id from child c where c.parent = any (p_sagas)
    union select o.id from child c join outbox o on o.root = c.saga_id where c.parent = any (p_sagas)
$$;

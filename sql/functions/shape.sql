-- What of a definition a live saga depends on: its steps in order, their pivot, their
-- undo, and whether they leave doubt.
create or replace function shape(p_steps jsonb) returns jsonb
language sql immutable set search_path from current as $$
    select jsonb_agg(jsonb_build_array(s.name, s.pivot, s.undo, s.transactional) order by s.position)
    from jsonb_to_recordset(p_steps) as s(
        name text, position integer, pivot boolean, undo boolean, transactional boolean)
$$;

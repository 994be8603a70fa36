-- What of a definition a live saga depends on: its steps in order, their pivot, their
-- undo, and whether they leave doubt.
create or replace function shape(p_steps jsonb) returns jsonb
language sql immutable set search_path from current as $$
    select jsonb_agg(jsonb_build_array(
            s.name, s.does, s.next, s.heads, s.signal, s.fans_out, s.best_effort, s.ask_timeout is not null,
            s.pivot, s.undo, s.transactional) order by s.position)
    from jsonb_to_recordset(p_steps) as s(
        name text, does text, next text, heads jsonb, signal text, fans_out boolean, best_effort boolean,
        ask_timeout interval, position integer, pivot boolean, undo boolean, transactional boolean)
$$;

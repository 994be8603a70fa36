-- What a line is at, as people name it: its step or, of an element, "step/place".
create or replace function line_name(p_line outbox) returns text
language sql stable set search_path from current as $$
    select (p_line).step || coalesce('/' || case when (p_line).elements is null then (p_line).element end, '')
$$;

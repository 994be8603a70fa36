-- The error that a line met last.
create or replace function line_error(p_line outbox) returns jsonb
language sql stable set search_path from current as $$
    select t.error from transition t
    where t.saga_id = coalesce((p_line).root, (p_line).id) and t.error is not null
      and t.line is not distinct from case when (p_line).root is not null then (p_line).id end
    order by t.seq desc limit 1
$$;

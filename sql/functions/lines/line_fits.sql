-- Whether any line of a live saga is at a step ("step", of an element "step/place"), and has met an error of
-- this type last; what is null is not asked for.
create or replace function line_fits(p_saga uuid, p_step text, p_error text) returns boolean
language sql stable set search_path from current as $$
    select exists (
        select from outbox o
        where (o.id = p_saga or o.root = p_saga)
          and (p_step is null or p_step in (o.step, line_name(o)))
          and (p_error is null or line_error(o) ->> 'type' = p_error))
$$;

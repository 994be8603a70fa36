-- By what a limit tells sagas apart: what stands in the input at a path such as customer or
-- order.merchant; '' where the limit has no path. Null: the input has nothing there, so the limit does
-- not count the saga.
create or replace function limit_key(p_input jsonb, p_path text) returns text
language sql immutable parallel safe set search_path from current as $$
    select case
        when p_path is null then ''
        when length(p_input #>> string_to_array(p_path, '.')) > 200 then md5(p_input #>> string_to_array(p_path, '.'))
        else p_input #>> string_to_array(p_path, '.') end
$$;

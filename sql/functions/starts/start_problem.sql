-- Why no saga of a type can be started with an input; null: it can.
create or replace function start_problem(p_type text, p_input jsonb) returns text
language sql stable set search_path from current as $$
    select nullif(coalesce(
        (select case
             when p_input is null then 'the input is null'
             when octet_length(p_input::text) > c.max_input_bytes then format(
                 'the input has %s bytes, the limit is %s (setting.max_input_bytes)',
                 octet_length(p_input::text), c.max_input_bytes)
             else coalesce(
                 input_problem(p_input, d.input_fields, d.input_schema -> 'additionalProperties' = 'false'), '') end
         from definition d cross join setting c
         where d.type = p_type order by d.version desc limit 1),
        format('unknown saga type "%s"', p_type)), '')
$$;

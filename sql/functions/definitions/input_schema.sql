-- The JSON schema of a saga type's input, of its newest version unless one is given.
create or replace function input_schema(p_type text, p_version integer default null) returns jsonb
language sql stable security definer set search_path from current as $$
    select d.input_schema from definition d
    where d.type = p_type and (p_version is null or d.version = p_version)
    order by d.version desc limit 1
$$;
comment on function input_schema is 'The JSON schema of a saga type''s input: select saga.input_schema(''payment'')';

-- The top-level fields of a JSON schema, flat, made once at registration so that a start checks
-- many inputs in one query: [{"name": …, "required": …, "types": [… or null]}, …].
create or replace function schema_fields(p_schema jsonb) returns jsonb
language sql immutable set search_path from current as $$
    select coalesce(jsonb_agg(jsonb_build_object(
        'name', p.key,
        'required', coalesce(p_schema -> 'required', '[]') ? p.key,
        'types', to_jsonb(schema_types(p_schema, p.value)))), '[]')
    from jsonb_each(coalesce(p_schema -> 'properties', '{}')) as p
$$;

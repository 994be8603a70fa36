-- The JSON types that a node of a JSON schema admits, or null where that cannot be told simply.
create or replace function schema_types(p_root jsonb, p_node jsonb, p_depth integer default 0)
returns text[] language plpgsql immutable set search_path from current as $$
declare
    v_types text[] := '{}';
    v_part text[];
    v_branch jsonb;
begin
    if p_depth > 8 or jsonb_typeof(p_node) <> 'object' then
        return null;
    elsif p_node ? '$ref' and p_node ->> '$ref' like '#/$defs/%' then
        return schema_types(p_root, p_root -> '$defs' -> substr(p_node ->> '$ref', 9), p_depth + 1);
    elsif jsonb_typeof(p_node -> 'type') = 'string' then
        return array[p_node ->> 'type'];
    elsif jsonb_typeof(p_node -> 'type') = 'array' then
        return array(select jsonb_array_elements_text(p_node -> 'type'));
    elsif jsonb_typeof(p_node -> 'anyOf') = 'array' then
        for v_branch in select jsonb_array_elements(p_node -> 'anyOf') loop
            v_part := schema_types(p_root, v_branch, p_depth + 1);
            if v_part is null then
                return null;
            end if;
            v_types := v_types || v_part;
        end loop;
        return v_types;
    end if;
    return null;
end $$;

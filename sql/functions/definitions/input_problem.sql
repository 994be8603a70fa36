-- What is wrong with an input, in words, or null: required fields and their types.
create or replace function input_problem(p_input jsonb, p_fields jsonb, p_closed boolean)
returns text language sql immutable set search_path from current as $$
    select problem from (
        select 1 as place, format('it must be a JSON object, not %s', jsonb_typeof(p_input)) as problem
        where jsonb_typeof(p_input) <> 'object'
        union all
        select 2, case
            when not p_input ? f.name then format('the field "%s" is required', f.name)
            else format('the field "%s" must be %s, not %s (%s)', f.name,
                array_to_string(f.types, ' or '), jsonb_typeof(p_input -> f.name),
                left((p_input -> f.name)::text, 60)) end
        from jsonb_to_recordset(p_fields) as f(name text, required boolean, types text[])
        where jsonb_typeof(p_input) = 'object' and case
            when not p_input ? f.name then f.required
            when f.types is null then false
            when jsonb_typeof(p_input -> f.name) = any (f.types) then false
            when jsonb_typeof(p_input -> f.name) = 'number' and 'integer' = any (f.types)
                then (p_input ->> f.name)::numeric <> trunc((p_input ->> f.name)::numeric)
            else true end
        union all
        select 3, format('the field "%s" is not known; known are: %s', k,
            (select string_agg(f.name, ', ' order by f.name)
             from jsonb_to_recordset(p_fields) as f(name text)))
        from jsonb_object_keys(case when jsonb_typeof(p_input) = 'object' then p_input else '{}' end) as k
        where p_closed and not exists (
            select from jsonb_to_recordset(p_fields) as f(name text) where f.name = k)
    ) as found
    order by place limit 1
$$;

-- Starts sagas of one type in the caller's transaction, one a key; a key that exists returns its
-- saga. Rows come back in the order given. p_keys may be null, or hold nulls: then the id is the key.
create or replace function start_many(
    p_type text, p_inputs jsonb[], p_keys text[] default null,
    p_version integer default null, p_due_at timestamptz default null)
returns table (id uuid, key text, created boolean)
language plpgsql security definer set search_path from current
set plan_cache_mode to force_generic_plan set enable_seqscan to off
set enable_hashjoin to off set enable_mergejoin to off as $$
#variable_conflict use_column
declare
    v_definition definition;
    v_max_bytes integer;
    v_first definition_step;
    v_now timestamptz := clock();
    v_bad record;
    v_ids uuid[];
    v_keys text[];
    v_created boolean := false;
begin
    if p_inputs is null or (p_keys is not null and cardinality(p_keys) <> cardinality(p_inputs)) then
        raise exception 'start_many needs as many keys as inputs, got % and %',
            cardinality(p_keys), cardinality(p_inputs) using errcode = 'SG002';
    end if;
    select d.* into v_definition from definition d
        where d.type = p_type and (p_version is null or d.version = p_version)
        order by d.version desc limit 1;
    if not found then
        raise exception 'unknown saga type "%"%', p_type, coalesce(' version ' || p_version, '')
            using errcode = 'SG001', hint = 'Registered: ' || coalesce(
                (select string_agg(format('%s version %s', d.type, d.version), ', ' order by d.type, d.version)
                 from definition d), 'none yet; start a worker or run bin/saga register');
    end if;
    select s.max_input_bytes into strict v_max_bytes from setting s;

    select g.key, g.place,
        case when g.input is null then 'it is null'
             when octet_length(g.input::text) > v_max_bytes then format(
                 'it has %s bytes, the limit is %s (setting.max_input_bytes)',
                 octet_length(g.input::text), v_max_bytes)
             when length(g.key) > 512 then format('its key has %s characters, the limit is 512', length(g.key))
             when g.key = '' then 'its key is empty'
             else input_problem(g.input, v_definition.input_fields,
                 v_definition.input_schema -> 'additionalProperties' = 'false') end as problem
    into v_bad
    from unnest(p_inputs, p_keys) with ordinality as g(input, key, place)
    where case when g.input is null or length(g.key) > 512 or g.key = '' then true
               when octet_length(g.input::text) > v_max_bytes then true
               else input_problem(g.input, v_definition.input_fields,
                   v_definition.input_schema -> 'additionalProperties' = 'false') is not null end
    order by g.place limit 1;
    if found then
        raise exception 'invalid input for saga type "%"%: %', p_type,
            coalesce(' (key "' || left(v_bad.key, 80) || '")', ''), v_bad.problem
            using errcode = 'SG002', hint = format('Its JSON schema: select input_schema(%L).', p_type);
    end if;

    perform pg_advisory_xact_lock_shared(doze_key());
    select s.* into strict v_first from definition_step s
        where s.type = p_type and s.version = v_definition.version and s.position = 1;
    v_ids := array(select new_id() from generate_series(1, cardinality(p_inputs)));
    v_keys := array(select coalesce(k, i::text)
        from unnest(p_keys, v_ids) with ordinality as g(k, i, place) order by place);

    loop
        -- In key order, so that two bulk starts with the same keys wait for one another, never in a
        -- ring.
        with born as (
            insert into instance as n (id, type, version, key, input, created_at)
            select g.id, p_type, v_definition.version, g.key, g.input, v_now
            from unnest(v_ids, v_keys, p_inputs) as g(id, key, input)
            order by g.key
            on conflict (type, key) do nothing
            returning n.id, n.key
        ), commanded as (
            insert into outbox (id, type, version, status, state, step, due_at, moved_at)
            select b.id, p_type, v_definition.version, 'CREATED', 'CREATED', v_first.name,
                greatest(p_due_at, v_now), v_now
            from born b
        )
        select v_created or count(*) > 0 into v_created from born b;

        -- A statement of its own: it sees the winner of a race for a key; or that the saga which had
        -- the key was purged just now, so that the key is free after all.
        select g.key, n.id is null as is_free into v_bad
        from unnest(v_keys, p_inputs) as g(key, input)
        left join lateral (
            select n.id, n.input from instance n where n.type = p_type and n.key = g.key offset 0) as n on true
        where n.id is null or n.input <> g.input
        order by n.id is null limit 1;
        exit when not found or not v_bad.is_free;
    end loop;
    if found then
        raise exception 'a saga of type "%" with key "%" exists with another input', p_type, v_bad.key
            using errcode = 'SG003',
                hint = 'A key names one business transaction: use a new key, or start it with the same input.';
    end if;
    if v_created then
        perform wake(p_type);
    end if;
    return query
        select n.id, n.key, n.id = g.id
        from unnest(v_ids, v_keys) with ordinality as g(id, key, place)
        cross join lateral (
            select n.id, n.key from instance n where n.type = p_type and n.key = g.key offset 0) as n
        order by g.place;
end $$;
comment on function start_many is 'Starts many sagas of one type in the caller''s transaction; idempotent per (type, key).';

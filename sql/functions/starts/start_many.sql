-- Starts sagas of one type in the caller's transaction, one a key; a key that exists returns its
-- saga. Rows come back in the order given. p_keys may be null, or hold nulls: then the id is the key.
-- Each point of p_priority counts as having waited for setting.priority_step already, so that nothing
-- starves: what waits longer than the difference comes first.
create or replace function start_many(
    p_type text, p_inputs jsonb[], p_keys text[] default null,
    p_version integer default null, p_due_at timestamptz default null, p_priority integer default 0)
returns table (id uuid, key text, created boolean)
language plpgsql security definer set search_path from current
set plan_cache_mode to force_generic_plan set enable_seqscan to off
set enable_hashjoin to off set enable_mergejoin to off set jit to off as $$
#variable_conflict use_column
declare
    v_type record;
    v_now timestamptz := clock();
    v_bad record;
    v_ids uuid[];
    v_keys text[];
    v_born integer;
    v_created boolean := false;
begin
    if p_inputs is null or (p_keys is not null and cardinality(p_keys) <> cardinality(p_inputs)) then
        raise exception 'start_many needs as many keys as inputs, got % and %',
            cardinality(p_keys), cardinality(p_inputs) using errcode = 'SG002';
    end if;
    if p_priority < 0 or p_priority > 1000000 then
        raise exception 'the priority is %, but it is 0 (the lowest) to 1000000', p_priority using errcode = 'SG002';
    end if;
    -- Until the commit, so that the definition stays what it is; and see wake().
    perform pg_advisory_xact_lock_shared(doze_key());
    select d.version, d.input_fields, d.input_schema -> 'additionalProperties' = 'false' as forbids_others,
        s.name as first_step, c.max_input_bytes, d.deadline,
        v_now - coalesce(p_priority, 0) * c.priority_step as due_at
    into v_type
    from definition d
    join definition_step s on s.type = d.type and s.version = d.version and s.position = 1
    cross join setting c
    where d.type = p_type and (p_version is null or d.version = p_version)
    order by d.version desc limit 1;
    if not found then
        raise exception 'unknown saga type "%"%', p_type, coalesce(' version ' || p_version, '')
            using errcode = 'SG001', hint = 'Registered: ' || coalesce(
                (select string_agg(format('%s version %s', d.type, d.version), ', ' order by d.type, d.version)
                 from definition d), 'none yet; start a worker or run bin/saga register');
    end if;

    select g.key, g.place, g.problem into v_bad
    from (
        select u.key, u.place,
            case when u.input is null then 'it is null'
                 when octet_length(u.input::text) > v_type.max_input_bytes then format(
                     'it has %s bytes, the limit is %s (setting.max_input_bytes)',
                     octet_length(u.input::text), v_type.max_input_bytes)
                 when length(u.key) > 512
                     then format('its key has %s characters, the limit is 512', length(u.key))
                 when u.key = '' then 'its key is empty'
                 else input_problem(u.input, v_type.input_fields, v_type.forbids_others) end as problem
        from unnest(p_inputs, p_keys) with ordinality as u(input, key, place) offset 0) as g
    where g.problem is not null
    order by g.place limit 1;
    if found then
        raise exception 'invalid input for saga type "%"%: %', p_type,
            coalesce(' (key "' || left(v_bad.key, 80) || '")', ''), v_bad.problem
            using errcode = 'SG002', hint = format('Its JSON schema: select input_schema(%L).', p_type);
    end if;

    select array_agg(g.id order by g.place), array_agg(coalesce(g.key, g.id::text) order by g.place)
    into v_ids, v_keys
    from (
        select new_id() as id, u.key, u.place
        from unnest(p_inputs, p_keys) with ordinality as u(input, key, place) offset 0) as g;

    loop
        -- In key order, so that two bulk starts with the same keys wait for one another, never in a
        -- ring.
        with born as (
            insert into instance as n (id, type, version, key, input, created_at)
            select g.id, p_type, v_type.version, g.key, g.input, v_now
            from unnest(v_ids, v_keys, p_inputs) as g(id, key, input)
            order by g.key
            on conflict (type, key) do nothing
            returning n.id, n.key
        ), commanded as (
            insert into outbox (id, type, version, status, state, step, due_at, moved_at)
            select b.id, p_type, v_type.version, 'CREATED', 'CREATED', v_type.first_step,
                case when p_due_at > v_now then p_due_at else v_type.due_at end, v_now
            from born b
        ), dated as (
            insert into deadline (saga_id, at)
            select b.id, greatest(p_due_at, v_now) + v_type.deadline from born b where v_type.deadline is not null
        )
        select count(*) into v_born from born b;
        v_created := v_created or v_born > 0;
        exit when v_born = cardinality(v_ids);

        -- A statement of its own: it sees the winner of a race for a key; or that the saga which had
        -- the key was purged just now, so that the key is free after all.
        select g.key, n.id is null as is_free into v_bad
        from unnest(v_keys, p_inputs) as g(key, input)
        left join lateral (
            select n.id, n.input from instance n where n.type = p_type and n.key = g.key offset 0) as n on true
        where n.id is null or (n.input <> g.input and not exists (
            -- An operator has amended it since.
            select from act a where a.saga_id = n.id and a.act = 'amend' and a.detail -> 'old_input' = g.input))
        order by n.id is null limit 1;
        if found and not v_bad.is_free then
            raise exception 'a saga of type "%" with key "%" exists with another input', p_type, v_bad.key
                using errcode = 'SG003',
                    hint = 'A key names one business transaction: use a new key, or start it with the same input.';
        end if;
        exit when not found;
    end loop;
    if v_created then
        perform wake(p_type);
    end if;
    if v_born = cardinality(v_ids) then
        return query select g.id, g.key, true from unnest(v_ids, v_keys) as g(id, key);
    else
        return query
            select n.id, n.key, n.id = g.id
            from unnest(v_ids, v_keys) with ordinality as g(id, key, place)
            cross join lateral (
                select n.id, n.key from instance n where n.type = p_type and n.key = g.key offset 0) as n
            order by g.place;
    end if;
end $$;
comment on function start_many is 'Starts many sagas of one type in the caller''s transaction; idempotent per (type, key).';

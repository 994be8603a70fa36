-- Registers a version of a saga type, or updates its policies (timeouts, retries, states). A change
-- of the steps themselves is refused while sagas of that version live: they would no longer fit.
-- Returns 'registered', 'updated' or 'unchanged'.
create or replace function register(p_type text, p_version integer, p_steps jsonb, p_input_schema jsonb,
    p_deadline interval default null)
returns text language plpgsql security definer set search_path from current as $$
declare
    v_old definition;
    v_live bigint;
    v_keys text;
    v_pivot integer;
begin
    perform pg_advisory_xact_lock(hashtextextended('outbox register ' || current_schema(), 0));
    select * into v_old from definition where type = p_type and version = p_version;
    if found and v_old.steps = p_steps and v_old.input_schema = p_input_schema
            and v_old.deadline is not distinct from p_deadline then
        return 'unchanged';
    end if;
    if v_old.type is not null and shape(v_old.steps) <> shape(p_steps) then
        -- Starts under way, which hold it shared, come to their end first: they may be of this version.
        perform pg_advisory_xact_lock(doze_key());
        select count(*), string_agg(u.key, ', ' order by u.place) filter (where u.place <= 5) into v_live, v_keys
        from (select v.key, row_number() over () as place from version_in_use(p_type, p_version) as v) as u;
        if v_live > 0 then
            raise exception 'saga type % version % is registered with other steps, and % of its sagas live: %',
                p_type, p_version, v_live, v_keys || case when v_live > 5 then ', …' else '' end
                using errcode = 'SG008', hint = format(
                    'Give the changed definition a new version: Saga("%s", version=%s).',
                    p_type, p_version + 1);
        end if;
    end if;
    if jsonb_array_length(p_steps) = 0 then
        raise exception 'saga type % version % has no steps', p_type, p_version using errcode = 'SG008';
    end if;

    insert into definition as d (type, version, steps, input_schema, input_fields, deadline, registered_at)
    values (p_type, p_version, p_steps, p_input_schema, schema_fields(p_input_schema), p_deadline, clock())
    on conflict (type, version) do update
        set steps = excluded.steps, input_schema = excluded.input_schema,
            input_fields = excluded.input_fields, deadline = excluded.deadline,
            -- Since when it has these steps: the audit judges no saga by steps that came later.
            registered_at = case when shape(d.steps) = shape(excluded.steps) then d.registered_at
                                 else excluded.registered_at end;
    delete from definition_step where type = p_type and version = p_version;
    select position into v_pivot
        from jsonb_to_recordset(p_steps) as s(position integer, pivot boolean) where s.pivot;
    insert into definition_step (
        type, version, name, position, does, next, next_timeout, heads, signal, fans_out, concurrency,
        best_effort, optional, reconciles, key_age, plain, state, pivot, after_pivot, transactional, timeout, attempts,
        backoff, backoff_cap, undo, undo_transactional, undo_timeout, undo_attempts, undo_backoff,
        undo_backoff_cap, ask_timeout, ask_attempts, ask_backoff, ask_backoff_cap, nothing_to_undo)
    select p_type, p_version, s.name, s.position, s.does, s.next, n.timeout,
        (select array_agg(h #>> '{}' order by place) from jsonb_array_elements(s.heads) with ordinality as h(h, place)),
        s.signal, s.fans_out, s.concurrency, s.best_effort, coalesce(s.optional, false), s.ask_timeout is not null, s.key_age,
        s.does = 'action' and not s.fans_out and not s.best_effort and s.ask_timeout is null and s.key_age is null,
        s.state, s.pivot, coalesce(s.position > v_pivot, false), s.transactional, s.timeout, s.attempts,
        s.backoff, s.backoff_cap, s.undo, s.undo_transactional, s.undo_timeout, s.undo_attempts,
        s.undo_backoff, s.undo_backoff_cap, s.ask_timeout, s.ask_attempts, s.ask_backoff, s.ask_backoff_cap,
        s.nothing_to_undo
    from jsonb_to_recordset(p_steps) as s(
        name text, position integer, does text, next text, heads jsonb, signal text, fans_out boolean,
        concurrency integer, best_effort boolean, optional boolean, key_age interval, ask_timeout interval,
        ask_attempts integer, ask_backoff interval, ask_backoff_cap interval, state text, pivot boolean, transactional boolean,
        timeout interval, attempts integer, backoff interval, backoff_cap interval, undo boolean,
        undo_transactional boolean, undo_timeout interval, undo_attempts integer,
        undo_backoff interval, undo_backoff_cap interval, nothing_to_undo text)
    left join jsonb_to_recordset(p_steps) as n(name text, timeout interval) on n.name = s.next;
    return case when v_old.type is null then 'registered' else 'updated' end;
end $$;

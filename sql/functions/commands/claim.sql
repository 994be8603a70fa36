-- Claims due commands: up to p_limits[n] of (p_types[n], p_versions[n]), oldest due first, each type
-- by a scan of its own over outbox_due. Returns what a worker needs to run them. The saga becomes
-- EXECUTING by its first claim. What is handed over is read in a second statement, since a row locked
-- here may be newer than the first statement's snapshot.
--
-- p_floors[n], where it is not null, is an instant before which nothing is looked for: while somebody
-- holds an old snapshot, the index keeps an entry for every command that was ever claimed, and a scan
-- from its start would walk them all. What becomes due below the floor is found by the next claim
-- without one, which a worker makes at every poll.
create or replace function claim(
    p_worker uuid, p_types text[], p_versions integer[], p_limits integer[], p_floors timestamptz[] default null)
returns table (
    command uuid, fence integer, seq integer, type text, version integer, key text, kind text,
    step text, ordinal integer, attempt integer, revision integer, in_doubt boolean,
    input jsonb, results json, error jsonb, due_at timestamptz,
    root uuid, element integer, awaits text, arrived json)
language plpgsql security definer set search_path from current
set plan_cache_mode to force_generic_plan set enable_seqscan to off
set enable_hashjoin to off set enable_mergejoin to off set jit to off as $$
#variable_conflict use_column
declare
    v_now timestamptz := clock();
    v_hold interval;
    v_pauses boolean;
    v_gated text[];
    v_claimed uuid[];
    v_command uuid;
    -- Classes of errors: too many rows, a bad value, beyond a limit of Postgres.
    v_its_data constant text := '^(21|22|54)';
begin
    select s.hold, s.pauses, array(select g.type from gate g where g.type = any (p_types))
    into strict v_hold, v_pauses, v_gated
    from setting s;
    if v_gated <> '{}' then
        -- In the order of the types, in which everybody locks gates.
        perform admit(w.type, w.version, w.most, w.floor, v_now)
        from (
            select * from unnest(p_types, p_versions, p_limits, p_floors) as u(type, version, most, floor)
            where u.type = any (v_gated) and (not v_pauses or not is_paused(null, u.type)) order by u.type, u.version offset 0) as w;
    end if;
    -- After the gates, for which one may have to wait: who has locked this row keeps its heartbeats waiting.
    update worker set idle = false where id = p_worker and idle;
    if not found and not exists (select from worker where id = p_worker) then
        raise exception 'worker % is not registered: it was reaped', p_worker using errcode = 'SG007';
    end if;

    -- Materialized and without the steps: joined to them first, a type's scan would run once a step.
    with due as materialized (
        select d.*
        from unnest(p_types, p_versions, p_limits, p_floors) as w(type, version, most, floor)
        cross join lateral (
            select o.ctid as place, o.type, o.version, o.kind, o.step
            from outbox o
            where o.type = w.type and o.version = w.version
              and o.worker is null and o.status <> 'SUSPENDED' and o.due_at <= v_now
              and o.due_at >= coalesce(w.floor, '-infinity')
              and (not v_pauses or not is_paused(coalesce(o.root, o.id), o.type))
              -- Of a type with limits only what was let in.
              and (w.type <> all (v_gated)
                   or (select t.state from ticket t where t.saga_id = coalesce(o.root, o.id)) = 'running')
            order by o.due_at
            limit w.most
            for no key update skip locked) as d
        where not v_pauses or not is_paused(null, w.type)
    ), taken as (
        update outbox o
        set worker = p_worker, fence = o.fence + 1,
            deadline = v_now + v_hold + case d.kind
                when 'action' then s.timeout when 'compensation' then s.undo_timeout else s.ask_timeout end,
            status = case o.status when 'CREATED' then 'EXECUTING' else o.status end
        from due d
        join definition_step s on s.type = d.type and s.version = d.version and s.name = d.step
        where o.ctid = d.place
        returning o.id
    )
    select coalesce(array_agg(t.id), '{}') into v_claimed from taken t;

    begin
        return query select * from handed(v_claimed);
    exception when others then
        -- The data of one of them are to blame: of that no worker is to die, and for that no other saga
        -- is to wait.
        if sqlstate !~ v_its_data then
            raise;
        end if;
        foreach v_command in array v_claimed loop
            begin
                return query select * from handed(array[v_command]);
            exception when others then
                if sqlstate !~ v_its_data then
                    raise;
                end if;
                perform set_aside(v_command, sqlerrm, v_now);
            end;
        end loop;
    end;
end $$;

-- A worker about to fall asleep. While a start is under way anywhere it may not (its commit would go
-- unheard): null. Else it is marked idle, so that starts wake it, and gets the time until its next
-- command is due, zero or less when one is due already.
create or replace function doze(p_worker uuid, p_types text[], p_versions integer[])
returns interval language plpgsql security definer set search_path from current
set plan_cache_mode to force_generic_plan as $$
declare
    v_now timestamptz := clock();
    v_due timestamptz;
    v_pauses boolean := (select s.pauses from setting s);
begin
    -- Only a hint is written: no need to wait for the disk.
    perform set_config('synchronous_commit', 'off', true);
    -- The worker's row before the advisory lock: whoever wakes may hold a worker's row already.
    perform 1 from worker where id = p_worker for no key update;
    if not found or not pg_try_advisory_xact_lock(doze_key()) then
        return null;
    end if;
    update worker set idle = true where id = p_worker and not idle;
    select min(d.due_at) into v_due
    from unnest(p_types, p_versions) as w(type, version)
    cross join lateral (
        select o.due_at from outbox o
        where o.type = w.type and o.version = w.version
          and o.worker is null and o.status <> 'SUSPENDED'
          and (not v_pauses or not is_paused(coalesce(o.root, o.id), o.type))
        order by o.due_at limit 1) as d
    where not v_pauses or not is_paused(null, w.type);
    if exists (select from gate where type = any (p_types)) then
        select least(v_due, min(g.look_at), min(case when n.id is not null then v_now end)) into v_due
        from gate g
        join unnest(p_types, p_versions) as w(type, version) on w.type = g.type
        left join knock n on n.type = g.type and (n.version is null or n.version = w.version)
        where not v_pauses or not is_paused(null, w.type);
    end if;
    return coalesce(nullif(v_due, 'infinity') - v_now, interval '1 hour');
end $$;

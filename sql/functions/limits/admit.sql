-- Lets in sagas of a type with limits, as many as there are slots and, at most, as the worker has room
-- for. Called by claim() before it looks for commands: of such a type it takes only what was let in.
-- What is due and was not let in is parked: a ticket in the queue stands for it, in the order in which
-- it became due, priority included. One call at a time for each type, for all hold its gate; so what is
-- counted here, after the gate, is exact: whatever else happens meanwhile only gives slots back.
-- Waits for the gate alone, and skips whatever somebody has locked.
create or replace function admit(
    p_type text, p_version integer, p_most integer, p_floor timestamptz, p_now timestamptz)
returns void language plpgsql set search_path from current
set plan_cache_mode to force_generic_plan set enable_seqscan to off set enable_hashjoin to off
set enable_mergejoin to off set enable_sort to off set jit to off as $$
declare
    v_scan constant integer := 1000;
    v_gate gate;
    v_now timestamptz;
    v_limits saga_limit[];
    v_limit saga_limit;
    v_keys text[];
    v_names text[];
    v_arrived uuid[];
    v_mains uuid[];
    v_lines uuid[];
    v_admitted uuid[] := '{}';
    v_room integer;
    v_rate_room integer;
    v_look_at timestamptz;
    v_until timestamptz;
    v_used bigint;
    v_fresh integer := 0;
    v_taken integer := 0;
    v_takes boolean;
    v_seen integer;
    v_more boolean := false;
    v_blocked text;
    v_key text;
    k record;
begin
    select * into v_gate from gate where type = p_type for update;
    if not found then
        return;
    end if;
    v_now := clock();
    if v_gate.swept_at < v_now - interval '0.4 seconds' then
        perform sweep_gate(p_type, v_now);
    end if;
    v_limits := array(select l from saga_limit l where l.type = p_type and l.amount is not null order by l.name);

    -- Before anything is counted: what is given back after this look knocks again.
    with heard as (
        delete from knock n where n.type = p_type and (n.version is null or n.version = p_version)
        returning n.name, n.key
    )
    select array_agg(distinct h.name || '/' || h.key) filter (where h.key is not null),
        array_agg(distinct h.name) filter (where h.name is not null and h.key is null)
    into v_keys, v_names from heard h;
    update ticket t set blocked = null
    where t.type = p_type and t.blocked is not null and split_part(t.blocked, '/', 1) = any (v_names);
    for v_blocked in select u from unnest(v_keys) as u loop
        select l.* into v_limit from unnest(v_limits) as l where l.name = split_part(v_blocked, '/', 1);
        select count(*) into v_used from slot s
        where s.type = p_type and s.name = v_limit.name and s.key = substr(v_blocked, length(v_limit.name) + 2);
        update ticket t set blocked = null
        where t.saga_id = any (array(
            select b.saga_id from ticket b where b.type = p_type and b.blocked = v_blocked
            order by b.rank limit greatest(v_limit.amount - v_used, 0) for update skip locked));
    end loop;

    -- What is due and was not let in: fresh sagas, and those that waited and gave back their slots. A
    -- ticket changes only under the lock of its saga's main line.
    v_arrived := array(
        select o.id from outbox o
        where o.type = p_type and o.version = p_version and o.worker is null and o.status <> 'SUSPENDED'
          and o.due_at <= p_now and o.due_at >= coalesce(p_floor, '-infinity')
          and (select t.state from ticket t where t.saga_id = coalesce(o.root, o.id)) is distinct from 'running'
        order by o.due_at limit v_scan
        for no key update skip locked);
    if cardinality(v_arrived) > 0 then
        v_mains := array(
            select o.id from outbox o
            where o.id = any (array(
                select b.root from outbox b where b.id = any (v_arrived) and b.root is not null))
            order by o.id for no key update skip locked);
        v_arrived := array(
            select o.id from outbox o
            where o.id = any (v_arrived) and (o.root is null or o.root = any (v_mains)));
        insert into ticket as t (saga_id, type, version, state, fresh, rank, parked)
        select coalesce(o.root, o.id), p_type, p_version, 'queued', bool_and(o.status = 'CREATED'),
            min(o.due_at), array_agg(o.id)
        from outbox o where o.id = any (v_arrived) group by 1
        on conflict (saga_id) do update set state = 'queued', parked = t.parked || excluded.parked;
        -- Whoever moves a branch may end its saga.
        update outbox o set tail = true where o.id = any (v_mains) and not o.tail;
    end if;

    -- v_room: slots of the limits without a key. v_rate_room: how many may begin now.
    foreach v_limit in array v_limits loop
        if v_limit.per is not null then
            delete from rate_use r where r.type = p_type and r.name = v_limit.name and r.at <= v_now - v_limit.per;
            select coalesce(sum(r.amount), 0), min(r.at) + v_limit.per into v_used, v_until
            from rate_use r where r.type = p_type and r.name = v_limit.name;
            v_rate_room := least(v_rate_room, v_limit.amount - v_used);
            if v_used >= v_limit.amount then
                v_look_at := greatest(v_look_at, v_until);
            end if;
        elsif v_limit.path is null then
            select count(*) into v_used from slot s where s.type = p_type and s.name = v_limit.name and s.key = '';
            v_room := least(v_room, v_limit.amount - v_used);
        end if;
    end loop;

    if not exists (
        select from unnest(v_limits) as l where l.per is not null or l.path is not null or l.counts_waiting)
    then
        v_admitted := array(
            select t.saga_id from ticket t
            cross join lateral (select o.id from outbox o where o.id = t.saga_id for no key update skip locked) as o
            where t.type = p_type and t.version = p_version and t.state = 'queued' and t.blocked is null
            order by t.fresh, t.rank limit greatest(least(p_most, v_room), 0));
        v_taken := cardinality(v_admitted);
        v_more := v_taken = p_most;
    else
        v_seen := 0;
        for k in
            select t.saga_id, t.fresh, i.input
            from ticket t
            cross join lateral (select o.id from outbox o where o.id = t.saga_id for no key update skip locked) as o
            cross join lateral (select n.input from instance n where n.id = t.saga_id offset 0) as i
            where t.type = p_type and t.version = p_version and t.state = 'queued' and t.blocked is null
            order by t.fresh, t.rank
        loop
            v_seen := v_seen + 1;
            if cardinality(v_admitted) >= p_most or v_seen > v_scan then
                v_more := true;
                exit;
            end if;
            exit when k.fresh and (v_fresh >= v_rate_room or v_room <= v_taken);
            v_blocked := null;
            v_takes := false;
            foreach v_limit in array v_limits loop
                continue when v_limit.per is not null;
                v_key := limit_key(k.input, v_limit.path);
                continue when v_key is null or (not k.fresh and exists (
                    select from slot s where s.type = p_type and s.name = v_limit.name and s.key = v_key
                      and s.saga_id = k.saga_id));
                v_takes := v_takes or v_limit.path is null;
                select count(*) into v_used from slot s
                where s.type = p_type and s.name = v_limit.name and s.key = v_key;
                if v_used >= v_limit.amount then
                    v_blocked := v_limit.name || '/' || v_key;
                    if v_limit.path is not null then
                        update ticket t set blocked = v_blocked where t.saga_id = k.saga_id;
                        exit;
                    end if;
                end if;
            end loop;
            continue when v_blocked is not null;
            insert into slot (type, name, key, saga_id)
            select p_type, l.name, limit_key(k.input, l.path), k.saga_id from unnest(v_limits) as l
            where l.per is null and limit_key(k.input, l.path) is not null
            on conflict do nothing;
            v_admitted := v_admitted || k.saga_id;
            v_fresh := v_fresh + k.fresh::integer;
            v_taken := v_taken + v_takes::integer;
        end loop;
        foreach v_limit in array v_limits loop
            if v_limit.per is not null and v_fresh > 0 then
                insert into rate_use (type, name, at, amount) values (p_type, v_limit.name, v_now, v_fresh);
                if v_fresh >= v_rate_room and v_look_at is null then
                    v_look_at := (select min(r.at) from rate_use r where r.type = p_type and r.name = v_limit.name)
                        + v_limit.per;
                end if;
            end if;
        end loop;
    end if;

    if cardinality(v_admitted) > 0 then
        insert into slot (type, name, key, saga_id)
        select p_type, l.name, '', s.id from unnest(v_limits) as l cross join unnest(v_admitted) as s(id)
        where l.per is null and l.path is null
        on conflict do nothing;
        v_lines := array(select unnest(t.parked) from ticket t where t.saga_id = any (v_admitted));
        update ticket t set state = 'running', fresh = false, parked = '{}', blocked = null
        where t.saga_id = any (v_admitted);
        update outbox o
        set tail = o.tail or o.root is null, due_at = case o.due_at when 'infinity' then p_now else o.due_at end
        where o.id = any (v_lines) and o.awaits is distinct from 'lines'
          and (o.due_at = 'infinity' or (o.root is null and not o.tail));
    end if;
    update outbox o set due_at = 'infinity', tail = o.tail or o.root is null
    where o.id = any (v_arrived) and not (coalesce(o.root, o.id) = any (v_admitted));
    if v_gate.swept_at is not null then
        v_look_at := least(v_look_at, v_now + interval '0.5 seconds');
    end if;
    update gate g set look_at = v_look_at where g.type = p_type and g.look_at is distinct from v_look_at;

    -- What others could take: they hear of it by the knock, or are woken.
    insert into knock (type, version)
    select p_type, d.version from definition d
    where d.type = p_type and coalesce(v_room > v_taken, true)
      and case when d.version = p_version then v_more else exists (
              select from ticket t
              where t.type = p_type and t.version = d.version and t.state = 'queued' and t.blocked is null) end
      and not exists (select from knock n where n.type = p_type and n.version = d.version);
    if found then
        perform wake(p_type);
    end if;
end $$;

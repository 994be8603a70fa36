-- One page of the sagas that a filter (see find_sagas()) finds: their ids, the newest first, and where the
-- next page begins: null at the end. No call looks at more than p_scan sagas of a kind: where those that fit
-- are rare, a page may have fewer than p_limit, or none, and still a next one.
--
-- Living sagas are found in outbox, which is small; those that failed in failure; those that completed, or
-- all, in instance from its newest on. A key, and a type that few sagas have, are found by their index.
-- No sort where an index has the order: it would read all that p_scan allows before the first row comes out.
create or replace function saga_page(
    p_filter jsonb default '{}', p_before uuid default null, p_limit integer default 50,
    p_scan integer default 20000)
returns table (ids uuid[], next_before uuid)
language plpgsql stable security definer set search_path from current
set plan_cache_mode to force_custom_plan set enable_seqscan to off set enable_hashjoin to off
set enable_mergejoin to off set enable_sort to off set jit to off as $$
#variable_conflict use_column
declare
    f record;
    v_now timestamptz := clock();
    v_low uuid;
    v_high uuid;
    v_named uuid[];
    v_completed boolean;
    v_failed boolean;
    v_live boolean;
    v_found uuid[];
    v_edge uuid;
begin
    select * into strict f from sagas_filter(p_filter);
    if p_limit is null or p_limit not between 1 and 1000 then
        raise exception 'a page has 1 to 1000 sagas, not %', p_limit using errcode = 'SG002';
    end if;
    v_low := coalesce(first_id_at(v_now - f.younger_than), '00000000-0000-0000-0000-000000000000');
    v_high := least(p_before, first_id_at(v_now - f.older_than), 'ffffffff-ffff-ffff-ffff-ffffffffffff');
    v_completed := (f.statuses is null or 'COMPLETED' = any (f.statuses))
        and (f.state is null or f.state = 'COMPLETED') and f.step is null and f.error is null;
    v_failed := (f.statuses is null or 'FAILED' = any (f.statuses))
        and (f.state is null or f.state in ('FAILED', 'CANCELLED'));
    v_live := (f.statuses is null or f.statuses && '{CREATED,EXECUTING,COMPENSATING,SUSPENDED}')
        and (f.state is null or f.state not in ('COMPLETED', 'FAILED', 'CANCELLED'));
    if v_completed or f.key is not null or f.key_prefix is not null then
        v_named := sagas_named(f.type, f.key, f.key_prefix, p_scan / 4);
    end if;

    if v_named is not null then
        ids := array(
            select n.id from (select u as id from unnest(v_named) as u order by u desc) as n
            cross join lateral (
                select i.type, i.status, i.state from instance i
                where i.id = n.id offset 0) as i
            left join live l on l.saga_id = n.id
            left join failure x on x.saga_id = n.id
            where n.id < v_high and n.id >= v_low
              and (f.type is null or i.type = f.type)
              and (f.statuses is null or coalesce(i.status, l.status) = any (f.statuses))
              and (f.state is null or coalesce(i.state, l.state) = f.state)
              and ((f.step is null and f.error is null)
                   or ((f.step is null or x.step = f.step) and (f.error is null or x.error = f.error))
                   or (i.status is null and line_fits(n.id, f.step, f.error)))
            order by n.id desc limit p_limit + 1);
    elsif v_completed or f.key_prefix is not null then
        -- Scalar subqueries, not exists, which the planner would hash: all that live, for the few at hand.
        ids := array(
            select w.id
            from (
                select i.id, i.type, i.key, i.status, i.state from instance i
                where i.id < v_high and i.id >= v_low order by i.id desc limit p_scan) as w
            where (f.type is null or w.type = f.type)
              and (f.key_prefix is null or w.key ^@ f.key_prefix)
              and (f.statuses is null or w.status = any (f.statuses)
                   or (w.status is null
                       and (select l.status from live l where l.saga_id = w.id) = any (f.statuses)))
              and (f.state is null or w.state = f.state
                   or (w.status is null
                       and (select l.state from live l where l.saga_id = w.id) = f.state))
              and ((f.step is null and f.error is null)
                   or (w.status = 'FAILED' and (
                       select (f.step is null or x.step = f.step) and (f.error is null or x.error = f.error)
                       from failure x where x.saga_id = w.id))
                   or (w.status is null and line_fits(w.id, f.step, f.error)))
            order by w.id desc limit p_limit + 1);
        if cardinality(ids) <= p_limit then
            v_edge := (
                select i.id from instance i
                where i.id < v_high and i.id >= v_low order by i.id desc offset p_scan - 1 limit 1);
        end if;
    else
        if v_failed then
            ids := array(
                select w.saga_id
                from (
                    select x.saga_id, x.step, x.state from failure x
                    where x.saga_id < v_high and x.saga_id >= v_low
                      and (f.type is null or x.type = f.type) and (f.error is null or x.error = f.error)
                    order by x.saga_id desc limit p_scan) as w
                where (f.step is null or w.step = f.step) and (f.state is null or w.state = f.state)
                order by w.saga_id desc limit p_limit + 1);
            if cardinality(ids) <= p_limit then
                v_edge := (
                    select x.saga_id from failure x
                    where x.saga_id < v_high and x.saga_id >= v_low
                      and (f.type is null or x.type = f.type) and (f.error is null or x.error = f.error)
                    order by x.saga_id desc offset p_scan - 1 limit 1);
            end if;
        end if;
        if v_live then
            v_found := array(
                select w.saga_id
                from (
                    select l.*, o.status in ('SUSPENDED', 'COMPENSATING') or o.failures > 0 or o.deaths > 0
                            or o.lines is not null as may_be_in_trouble,
                        o.step = f.step or o.lines is not null as may_be_there
                    from live l join outbox o on o.id = l.saga_id
                    where l.saga_id < v_high and l.saga_id >= v_low order by l.saga_id desc limit p_scan) as w
                where (f.type is null or w.type = f.type)
                  and (f.statuses is null or w.status = any (f.statuses))
                  and (f.state is null or w.state = f.state)
                  -- What tells it at once, before what looks into the history.
                  and (f.error is null or w.may_be_in_trouble) and (f.step is null or w.may_be_there)
                  and ((f.step is null and f.error is null) or line_fits(w.saga_id, f.step, f.error))
                order by w.saga_id desc limit p_limit + 1);
            if cardinality(v_found) <= p_limit then
                v_edge := greatest(v_edge, (
                    select o.id from outbox o
                    where o.id < v_high and o.id >= v_low and o.root is null
                    order by o.id desc offset p_scan - 1 limit 1));
            end if;
            ids := ids || v_found;
        end if;
    end if;

    -- Below the edge one of the kinds has not been looked at yet.
    ids := array(
        select u from unnest(ids) as u where v_edge is null or u >= v_edge
        order by u desc limit p_limit + 1);
    next_before := case when cardinality(ids) > p_limit then ids[p_limit] else v_edge end;
    ids := ids[:p_limit];
    return next;
end $$;
comment on function saga_page is 'The ids of one page of find_sagas(), and where the next page begins.';

-- What each line of a living saga is at, the main line first. standing: suspended, running, joins (it waits for
-- the lines beside it), waiting (for what), delayed (until due_at), or due. line is null on the main line.
create or replace function lines_of(p_saga uuid)
returns table (
    line uuid, element integer, step text, kind text, status text, standing text, attempts integer,
    failures integer, awaits text, what text, sub_saga uuid, since timestamptz, due_at timestamptz, worker uuid,
    host text, pid integer, until timestamptz, reason text, error jsonb, in_doubt boolean)
language sql stable security definer set search_path from current
set enable_seqscan to off set enable_hashjoin to off set enable_mergejoin to off set jit to off as $$
    select case when o.root is not null then o.id end, case when o.elements is null then o.element end,
        o.step, o.kind::text, o.status::text,
        case when o.status = 'SUSPENDED' then 'suspended'
             when o.worker is not null then 'running'
             when o.awaits = 'lines' then 'joins'
             when o.due_at > clock() and o.awaits is not null then 'waiting'
             when o.due_at > clock() then 'delayed' else 'due' end,
        o.attempt, o.failures, o.awaits::text,
        case o.awaits
            when 'signal' then format('signal "%s"', s.signal)
            when 'saga' then format('saga %s (%s %s, %s)', c.saga_id, n.type, n.key, coalesce(n.status, 'living'))
            when 'lines' then format('%s lines', o.lines)
            when 'time' then format('until %s', o.due_at)
            else o.awaits end,
        c.saga_id, o.moved_at, nullif(o.due_at, 'infinity'), o.worker, w.host, w.pid, o.deadline, o.reason,
        line_error(o), o.doubt_until is not null
    from outbox o
    left join worker w on w.id = o.worker
    left join definition_step s on s.type = o.type and s.version = o.version and s.name = o.step
    left join lateral (
        select x.saga_id from child x where x.parent = p_saga and x.ordinal = coalesce(o.undoes, o.ordinal)
        order by x.saga_id desc limit 1) as c on o.awaits = 'saga'
    left join instance n on n.id = c.saga_id
    where o.id = p_saga or o.root = p_saga
    order by o.root is not null, o.ordinal, o.id
$$;
comment on function lines_of is 'What each line of a living saga is at: select * from saga.lines_of(id)';

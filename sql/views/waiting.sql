create view waiting as
select i.id as saga_id, o.type, o.version, i.key, o.step, o.kind::text as kind,
    o.awaits::text as awaits,
    case o.awaits
        when 'signal' then format('signal "%s"', s.signal)
        when 'saga' then format('saga %s (%s %s, %s)', c.saga_id, n.type, n.key, coalesce(n.status, 'living'))
        when 'lines' then format('%s lines', o.lines)
        when 'time' then format('until %s', o.due_at)
        else o.awaits end as what,
    c.saga_id as sub_saga, o.moved_at as since, nullif(o.due_at, 'infinity') as until,
    case when o.elements is null then o.element end as element,
    case when o.root is not null then o.id end as line
from outbox o
join instance i on i.id = coalesce(o.root, o.id)
left join definition_step s on s.type = o.type and s.version = o.version and s.name = o.step
left join lateral (
    select x.saga_id from child x where x.parent = i.id and x.ordinal = coalesce(o.undoes, o.ordinal)
    order by x.saga_id desc limit 1) as c on o.awaits = 'saga'
left join instance n on n.id = c.saga_id
where o.awaits is not null and o.worker is null and o.status <> 'SUSPENDED';
comment on view waiting is 'What waits for an event: for which, since when, and until when at most.';

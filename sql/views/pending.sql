create view pending as
select coalesce(o.root, o.id) as saga_id, o.type, o.version, i.key, o.status::text as status,
    o.step, o.kind::text as kind, o.attempt + 1 as attempt,
    case when o.worker is not null then 'claimed'
         when exists (
            select from pause p where p.resumed_at is null
              and (p.saga_id = i.id or (p.saga_id is null and coalesce(p.type, o.type) = o.type))) then 'paused'
         when o.due_at > clock() and o.awaits is not null then 'waiting'
         when o.due_at > clock() then 'delayed' else 'due' end as standing,
    nullif(o.due_at, 'infinity') as due_at, o.worker, w.host, w.pid, o.deadline, o.moved_at, o.fence,
    case when o.elements is null then o.element end as element,
    case when o.root is not null then o.id end as line, o.awaits::text as awaits
from outbox o
join instance i on i.id = coalesce(o.root, o.id)
left join worker w on w.id = o.worker
where o.status <> 'SUSPENDED' and o.awaits is distinct from 'lines';
comment on view pending is 'The commands that are due, claimed by a worker, delayed until due_at, paused, or waiting (see waiting).';

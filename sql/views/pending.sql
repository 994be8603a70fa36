create view pending as
select o.id as saga_id, o.type, o.version, i.key, o.status::text as status,
    o.step, o.kind::text as kind, o.attempt + 1 as attempt,
    case when o.worker is not null then 'claimed' when o.due_at > clock() then 'delayed' else 'due' end as standing,
    o.due_at, o.worker, w.host, w.pid, o.deadline, o.moved_at, o.fence
from outbox o
join instance i on i.id = o.id
left join worker w on w.id = o.worker
where o.status <> 'SUSPENDED';
comment on view pending is 'The commands that are due, claimed by a worker, or delayed until due_at.';

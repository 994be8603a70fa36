create view stuck as
select o.id as saga_id, o.type, o.version, i.key, o.status::text as status, o.state,
    o.step, o.kind::text as kind, o.attempt as attempts, o.seq,
    clock() - greatest(o.moved_at, o.due_at) as stuck_for,
    case when o.worker is not null then format('held by worker %s (%s pid %s) until %s', o.worker,
            coalesce(w.host, 'gone'), w.pid, o.deadline)
         when not exists (select from worker v where v.expires_at > clock() and exists (
                select from unnest(v.types, v.versions) as r(type, version)
                where r.type = o.type and r.version = o.version))
            then format('due since %s, and no live worker runs %s version %s', o.due_at, o.type, o.version)
         else format('due since %s', o.due_at) end as why,
    o.due_at, o.worker, o.moved_at
from outbox o
join instance i on i.id = o.id
left join worker w on w.id = o.worker
where o.status <> 'SUSPENDED'
  and greatest(o.moved_at, o.due_at) < clock() - (select s.stuck_after from setting s);
comment on view stuck is 'Live sagas with no transition for longer than setting.stuck_after, though their command was due.';

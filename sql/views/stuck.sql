create view stuck as
select i.id as saga_id, o.type, o.version, i.key, o.status::text as status, m.state,
    o.step, o.kind::text as kind, o.attempt as attempts, m.seq,
    clock() - greatest(o.moved_at, o.due_at) as stuck_for,
    case when o.worker is not null then format('held by worker %s (%s pid %s) until %s', o.worker,
            coalesce(w.host, 'gone'), w.pid, o.deadline)
         when not exists (select from worker v where v.expires_at > clock() and exists (
                select from unnest(v.types, v.versions) as r(type, version)
                where r.type = o.type and r.version = o.version))
            then format('due since %s, and no live worker runs %s version %s', o.due_at, o.type, o.version)
         else format('due since %s', o.due_at) end as why,
    o.due_at, o.worker, o.moved_at,
    case when o.elements is null then o.element end as element,
    case when o.root is not null then o.id end as line,
    case when o.root is null then m.seq else coalesce(
        (select max(t.seq) from transition t where t.line = o.id), m.seq) end as episode
from outbox o
join instance i on i.id = coalesce(o.root, o.id)
join outbox m on m.id = i.id
left join worker w on w.id = o.worker
where o.status <> 'SUSPENDED' and o.awaits is distinct from 'lines'
  and greatest(o.moved_at, o.due_at) < clock() - (select s.stuck_after from setting s)
  and not (o.worker is null and exists (
        select from pause p where p.resumed_at is null
          and (p.saga_id = i.id or (p.saga_id is null and coalesce(p.type, o.type) = o.type))));
comment on view stuck is 'Lines of live sagas with no transition for longer than setting.stuck_after, though their command was due.';

create view overview as
select i.id as saga_id, i.type, i.version, i.key,
    coalesce(i.status, o.status) as status, coalesce(i.state, o.state) as state,
    o.step, o.kind, o.attempts, o.seq, o.worker, o.due_at, o.reason,
    i.created_at, i.ended_at,
    coalesce(i.ended_at, clock()) - i.created_at as age,
    i.input, i.output, i.error,
    nullif(o.saga_id is not null and exists (
        select from pause p where p.resumed_at is null
          and (p.saga_id = i.id or (p.saga_id is null and coalesce(p.type, o.type) = o.type))), false) as paused,
    o.moved_at, d.at as deadline
from instance i
left join live o on o.saga_id = i.id
left join deadline d on d.saga_id = i.id;
comment on view overview is 'One row a saga, living or finished: where it stands.';

create view overview as
select i.id as saga_id, i.type, i.version, i.key,
    coalesce(i.status, o.status::text) as status,
    coalesce(i.state, o.state) as state,
    o.step, o.kind::text as kind, o.attempt as attempts, o.seq,
    o.worker, o.due_at, o.reason,
    i.created_at, i.ended_at,
    coalesce(i.ended_at, clock()) - i.created_at as age,
    i.input, i.output, i.error
from instance i left join outbox o on o.id = i.id;
comment on view overview is 'One row a saga, living or finished: where it stands.';

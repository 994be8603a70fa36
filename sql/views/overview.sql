create view overview as
select i.id as saga_id, i.type, i.version, i.key,
    coalesce(i.status, l.status, o.status::text) as status,
    coalesce(i.state, o.state) as state,
    coalesce(l.step, o.step) as step, coalesce(l.kind, o.kind::text) as kind, coalesce(l.attempt, o.attempt) as attempts,
    o.seq,
    o.worker, nullif(o.due_at, 'infinity') as due_at, coalesce(l.reason, o.reason) as reason,
    i.created_at, i.ended_at,
    coalesce(i.ended_at, clock()) - i.created_at as age,
    i.input, i.output, i.error,
    nullif(o.id is not null and exists (
        select from pause p where p.resumed_at is null
          and (p.saga_id = i.id or (p.saga_id is null and coalesce(p.type, o.type) = o.type))), false) as paused
from instance i
left join outbox o on o.id = i.id
left join lateral (
    -- Of several lines one is suspended, and none that could move the saga on runs.
    select 'SUSPENDED' as status, b.step, b.kind::text as kind, b.attempt, b.reason
    from outbox b
    where o.lines is not null and b.root = i.id and b.status = 'SUSPENDED'
      and not exists (
        select from outbox r
        where r.root = i.id and r.status <> 'SUSPENDED'
          and (r.worker is not null or r.awaits is null or r.awaits in ('time', 'saga')))
    order by b.id limit 1) as l on true;
comment on view overview is 'One row a saga, living or finished: where it stands.';

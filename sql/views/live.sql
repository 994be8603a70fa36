create view live as
select o.id as saga_id, o.type, o.version, coalesce(l.status, o.status::text) as status, o.state,
    coalesce(l.step, o.step) as step, coalesce(l.kind, o.kind::text) as kind,
    coalesce(l.attempt, o.attempt) as attempts, o.seq, o.worker, nullif(o.due_at, 'infinity') as due_at,
    coalesce(l.reason, o.reason) as reason, o.moved_at
from outbox o
left join lateral (
    -- Of several lines one is suspended, and none that could move the saga on runs.
    select 'SUSPENDED' as status, b.step, b.kind::text as kind, b.attempt, b.reason
    from outbox b
    where o.lines is not null and b.root = o.id and b.status = 'SUSPENDED'
      and not exists (
        select from outbox r
        where r.root = o.id and r.status <> 'SUSPENDED'
          and (r.worker is not null or r.awaits is null or r.awaits in ('time', 'saga')))
    order by b.id limit 1) as l on true
where o.root is null;
comment on view live is 'One row a living saga: where it stands. With its key and input: overview.';
comment on column live.status is 'SUSPENDED also where a line beside the main line is, and none runs that could go on.';
comment on column live.moved_at is 'Its last transition, or its start.';

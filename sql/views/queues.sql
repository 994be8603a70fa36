create view queues as
select o.type,
    count(*) filter (where o.worker is null and o.status <> 'SUSPENDED' and o.due_at <= c.now) as due,
    count(*) filter (where o.worker is not null) as claimed,
    count(*) filter (where o.worker is null and o.status <> 'SUSPENDED' and o.due_at > c.now and o.awaits is null) as delayed,
    count(*) filter (where o.worker is null and o.status <> 'SUSPENDED' and o.due_at > c.now and o.awaits is not null) as waiting,
    count(*) filter (where o.status = 'SUSPENDED') as suspended,
    c.now - min(greatest(o.due_at, o.moved_at)) filter (
        where o.worker is null and o.status <> 'SUSPENDED' and o.due_at <= c.now) as lag
from outbox o cross join (select clock() as now offset 0) as c
where o.awaits is distinct from 'lines'
group by o.type, c.now;
comment on view queues is 'How many commands of each type are due, claimed, delayed, waiting or suspended; lag: how long the oldest due one has been.';
comment on column queues.due is 'Ready, and taken by nobody yet.';
comment on column queues.claimed is 'In a worker''s hand.';
comment on column queues.delayed is 'For a retry, a planned start, or a limit.';
comment on column queues.waiting is 'For a signal, a time, or another saga.';
comment on column queues.lag is 'How long the oldest due command has been due.';

-- A claim says when the attempt has to have ended, and by that when it was claimed.
create view running as
select coalesce(o.root, o.id) as saga_id, o.type, o.version, i.key, o.step, o.kind::text as kind,
    o.attempt + 1 as attempt, r.since, clock() - r.since as running_for, o.deadline as until,
    o.worker, w.host, w.pid, clock() - w.heartbeat_at as heartbeat_age, o.abort as stops_after,
    case when o.elements is null then o.element end as element,
    case when o.root is not null then o.id end as line
from outbox o
join instance i on i.id = coalesce(o.root, o.id)
cross join setting c
left join worker w on w.id = o.worker
left join definition_step s on s.type = o.type and s.version = o.version and s.name = o.step
cross join lateral (
    select o.deadline - c.hold - case o.kind
        when 'action' then s.timeout when 'compensation' then s.undo_timeout else s.ask_timeout end as since) as r
where o.worker is not null;
comment on view running is 'What workers hold: since when, until when at most, which attempt, and who. stops_after: the saga is undone once this ends.';
comment on column running.since is 'When the worker took it, or got it with the step before.';
comment on column running.until is 'The attempt has ended by then, whatever happens; after that others take it.';
comment on column running.stops_after is 'The saga is undone once this attempt has ended.';
comment on column running.line is 'The line beside the main line; null: the main line.';
comment on column running.heartbeat_age is 'How long ago its worker was last heard of.';

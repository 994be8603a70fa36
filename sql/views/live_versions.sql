create view live_versions as
select d.type, d.version, d.registered_at, l.live, l.suspended, l.oldest_start,
    (select count(*) from worker w where w.expires_at > clock() and not w.draining and exists (
        select from unnest(w.types, w.versions) as r(type, version)
        where r.type = d.type and r.version = d.version)) as workers
from definition d
cross join lateral (
    select count(*) filter (where o.root is null) as live,
        count(distinct coalesce(o.root, o.id)) filter (where o.status = 'SUSPENDED') as suspended,
        min(i.created_at) as oldest_start
    from outbox o left join instance i on i.id = o.id
    where o.type = d.type and o.version = d.version) as l;
comment on view live_versions is 'Every registered version: its live sagas, their oldest start, and the workers that run it.';

create view workers as
select w.id as worker, w.host, w.pid,
    array(select format('%s v%s', r.type, r.version)
          from unnest(w.types, w.versions) as r(type, version) order by 1) as runs,
    case when w.expires_at <= clock() then 'dead' when w.draining then 'draining' else 'alive' end as standing,
    w.idle, clock() - w.heartbeat_at as heartbeat_age, w.lease,
    (select count(*) from outbox o where o.worker = w.id) as in_hand,
    w.started_at, clock() - w.started_at as age
from worker w;
comment on view workers is 'Every registered worker process: alive, draining (it takes no more), or dead, whose commands others will take.';
comment on column workers.standing is 'alive, draining (takes no more), or dead (its lease is over).';
comment on column workers.idle is 'It found nothing to do, and is woken by the next start.';
comment on column workers.in_hand is 'The commands that it holds.';

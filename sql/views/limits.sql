create view limits as
select l.type, l.name, l.amount, l.per, l.path as key, l.counts_waiting,
    case when l.version is null then 'SQL' else 'version ' || l.version end as set_by,
    case when l.per is null
        then (select count(*) from slot s where s.type = l.type and s.name = l.name)
        else (select coalesce(sum(r.amount), 0) from rate_use r
              where r.type = l.type and r.name = l.name and r.at > clock() - l.per) end as taken,
    (select count(*) from ticket t
     where t.type = l.type and t.state = 'queued'
       and (t.blocked is null or split_part(t.blocked, '/', 1) = l.name)) as queued
from saga_limit l
where l.amount is not null;
comment on view limits is 'The limits: what is taken of each, and how many sagas of its type queue for it.';

create view queued as
select t.saga_id, t.type, t.version, i.key, t.blocked as full, not t.fresh as begun,
    t.rank, clock() - i.created_at as age
from ticket t
join instance i on i.id = t.saga_id
where t.state = 'queued';
comment on view queued is 'The sagas that wait because of a limit, in the order of begun and rank; full: the limit and key that they found full.';

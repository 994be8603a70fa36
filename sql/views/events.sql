create view events as
select e.number, e.at, e.saga_id, e.type, e.version, i.key, e.seq, e.step, e.name, e.payload,
    to_be.delivered, to_be.waiting, to_be.dead
from event e
left join instance i on i.id = e.saga_id
left join lateral (
    select count(*) filter (where d.status = 'delivered') as delivered,
        count(*) filter (where d.status = 'waiting') as waiting,
        count(*) filter (where d.status = 'dead') as dead
    from delivery d where d.saga_id = e.saga_id and d.event = e.number) as to_be on true;
comment on view events is 'What sagas told the world, and to how many subscriptions it was delivered.';

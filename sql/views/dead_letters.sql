create view dead_letters as
select d.subscription, d.event, e.name, e.saga_id, e.type, i.key, e.at as emitted_at, d.attempts,
    d.at as given_up_at, d.error
from delivery d
join event e on e.number = d.event
left join instance i on i.id = d.saga_id
where d.status = 'dead';
comment on view dead_letters is 'Events that could not be delivered, with the last error: deliver them again by redeliver().';

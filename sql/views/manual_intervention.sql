create view manual_intervention as
select o.id as saga_id, o.type, o.version, i.key, o.state, o.step, o.kind::text as kind, o.reason, last.error,
    o.attempt as attempts, o.seq, o.moved_at as since, clock() - o.moved_at as waiting,
    o.doubt_until is not null as in_doubt, i.input
from outbox o
join instance i on i.id = o.id
left join lateral (
    select t.error from transition t where t.saga_id = o.id and t.error is not null
    order by t.seq desc limit 1) as last on true
where o.status = 'SUSPENDED';
comment on view manual_intervention is 'Sagas that only a person can move on, with the reason: retry, abort or resolve them.';

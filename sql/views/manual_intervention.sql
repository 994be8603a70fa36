create view manual_intervention as
select i.id as saga_id, o.type, o.version, i.key, m.state, o.step, o.kind::text as kind, o.reason,
    (select t.error from transition t
     where t.saga_id = i.id and t.error is not null
       and t.line is not distinct from case when o.root is not null then o.id end
     order by t.seq desc limit 1) as error,
    o.attempt as attempts, m.seq, o.moved_at as since, clock() - o.moved_at as waiting,
    o.doubt_until is not null as in_doubt, i.input,
    case when o.elements is null then o.element end as element,
    case when o.root is not null then o.id end as line,
    case when o.root is null then m.seq else coalesce(
        (select max(t.seq) from transition t where t.line = o.id), m.seq) end as episode
from outbox o
join instance i on i.id = coalesce(o.root, o.id)
join outbox m on m.id = i.id
where o.status = 'SUSPENDED';
comment on view manual_intervention is 'What only a person can move on, one row a suspended line, with the reason: retry, skip, amend, abort or resolve it.';

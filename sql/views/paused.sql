create view paused as
select p.saga_id, coalesce(p.type, i.type) as type, i.key, p.note, p.actor, p.at as since, clock() - p.at as paused_for
from pause p left join instance i on i.id = p.saga_id
where p.resumed_at is null;
comment on view paused is 'What is paused: a saga, or a type, or, without either, everything.';

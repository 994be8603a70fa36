create view signals as
select g.saga_id, g.number, g.at, g.name, g.key, g.payload, g.actor, abs(g.ordinal) as ordinal,
    (select t.step from transition t
     where t.saga_id = g.saga_id and t.ordinal = abs(g.ordinal) order by t.seq limit 1) as taken_by
from signal g;
comment on view signals is 'What sagas were told, and which step took it; none has yet where ordinal is null.';
comment on column signals.taken_by is 'The step that took it; null: none has asked for it yet.';

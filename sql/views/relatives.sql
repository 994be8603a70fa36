create view relatives as
select c.parent as saga_id, 'sub-saga' as relation, c.saga_id as other,
    (select t.step from transition t
     where t.saga_id = c.parent and t.ordinal = c.ordinal order by t.seq limit 1) as step,
    null::text as note
from child c
union all
select c.saga_id, 'parent', c.parent,
    (select t.step from transition t
     where t.saga_id = c.parent and t.ordinal = c.ordinal order by t.seq limit 1), null
from child c
union all
select r.of, 'rerun as', r.saga_id, null, r.note from rerun r
union all
select r.saga_id, 'rerun of', r.of, null, r.note from rerun r;
comment on view relatives is 'How sagas belong together: the sub-sagas of one, its parent, what it is a rerun of and was rerun as.';
comment on column relatives.relation is 'What the other is to this one: sub-saga, parent, rerun as, rerun of.';
comment on column relatives.step is 'The parent''s step that waits for the sub-saga.';

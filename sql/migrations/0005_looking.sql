-- What makes looking at sagas quick, and costs the way of a command next to nothing.

-- The history of a window of time. Rows are appended in the order of their time, so a block range's least
-- and greatest instant say whether it has to be read; purged space that is used again only widens ranges
-- whose rows are gone.
create index transition_at on transition using brin (at) with (autosummarize = on);

-- The sagas that failed, so that they are found among millions that did not. step: the one that failed for
-- good, or at which the saga was stopped; error: the type of the saga's error.
create table failure (
    saga_id  uuid        primary key,
    type     text        not null,
    step     text,
    error    text        not null,
    state    text        not null,
    ended_at timestamptz not null
);
create index failure_type on failure (type, saga_id);
create index failure_error on failure (error, saga_id);
comment on table failure is 'One row a saga that is FAILED; from psql read the view overview.';

insert into failure (saga_id, type, step, error, state, ended_at)
select i.id, i.type, why.step, coalesce(i.error ->> 'type', 'Unknown'), i.state, i.ended_at
from instance i
left join lateral (
    select t.step from transition t
    where t.saga_id = i.id and t.kind <> 'compensation' and t.error is not null
    order by t.kind = 'act' desc, t.seq desc limit 1) as why on true
where i.status = 'FAILED';

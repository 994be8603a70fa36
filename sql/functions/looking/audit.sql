-- Every violated invariant, none if all is well. One statement, so one snapshot: correct while workers
-- run, for whatever belongs together is committed together. The planner knows nothing of the sizes of
-- the common table expressions below, so it is kept from joining them row by row.
create or replace function audit() returns table (saga_id uuid, invariant text, detail text)
language sql stable security definer set search_path from current
set enable_nestloop to off set jit to off as $$
    with history as (
        select t.*,
            lag(t.to_status) over w as before,
            lag(t.fence) over (partition by t.saga_id, t.line order by t.seq) as fence_before,
            lag(t.attempt) over (partition by t.saga_id, t.ordinal, t.kind order by t.seq) as attempt_before
        from transition t
        window w as (partition by t.saga_id order by t.seq)
    ),
    summary as (
        select h.saga_id, count(*) as transitions, min(h.seq) as first_seq, max(h.seq) as last_seq,
            (array_agg(h.to_status order by h.seq desc))[1] as last_status,
            bool_or(h.kind = 'act' and exists (
                select from act a where a.saga_id = h.saga_id and a.seq = h.seq and a.act = 'resolve')) as resolved
        from history h group by h.saga_id
    ),
    command as (
        select distinct on (h.saga_id, h.ordinal) h.saga_id, h.ordinal, h.undoes, h.kind, h.step, h.outcome, h.seq
        from history h where h.kind <> 'act'
        order by h.saga_id, h.ordinal, h.seq desc
    ),
    -- A group that was skipped by hand did none of its steps.
    passed_over as (
        select c.saga_id, p.position as after, coalesce(n.position, 2147483647) as before
        from command c
        join instance i on i.id = c.saga_id
        join definition_step p on p.type = i.type and p.version = i.version and p.name = c.step and p.does = 'parallel'
        left join definition_step n on n.type = p.type and n.version = p.version and n.name = p.next
        where c.outcome = 'done'
    ),
    undone as (
        select c.*, lag(c.undoes) over (partition by c.saga_id order by c.seq) as undone_before
        from command c where c.kind = 'compensation' and c.outcome = 'done'
    )
    select i.id, 'a live saga has a command', 'it has no outbox row'
    from instance i where i.status is null and not exists (select from outbox o where o.id = i.id)
    union all
    select o.id, 'a finished saga has no command', format('it is %s and its outbox row %s', i.status, o.status)
    from outbox o join instance i on i.id = o.id where i.status is not null
    union all
    select o.id, 'a command belongs to a saga', 'it has no instance'
    from outbox o where not exists (select from instance i where i.id = coalesce(o.root, o.id))
    union all
    select s.saga_id, 'a transition belongs to a saga', 'it has no instance'
    from summary s where not exists (select from instance i where i.id = s.saga_id)
    union all
    select s.saga_id, 'the seq has no gap', format('%s transitions from %s to %s', s.transitions, s.first_seq, s.last_seq)
    from summary s where s.first_seq <> 1 or s.last_seq <> s.transitions
    union all
    select o.id, 'the command knows its seq', format('it says %s, the history %s', o.seq, coalesce(s.last_seq, 0))
    from outbox o left join summary s on s.saga_id = o.id where o.root is null and o.seq <> coalesce(s.last_seq, 0)
    union all
    select h.saga_id, 'a transition begins where the last one ended',
        format('seq %s goes from %s, the one before went to %s', h.seq, h.from_status, h.before)
    from history h
    -- A claim, which begins a saga, is no transition.
    where h.before <> h.from_status and (h.before, h.from_status::text) <> ('CREATED', 'EXECUTING')
    union all
    select h.saga_id, 'a saga that ended stays ended', format('seq %s follows %s', h.seq, h.before)
    from history h
    where h.before = 'FAILED' or (h.before = 'COMPLETED' and (h.kind <> 'act' or h.from_status <> 'COMPLETED'))
    union all
    select s.saga_id, 'the history ends in the saga''s status',
        format('the history says %s, the saga %s', s.last_status, coalesce(i.status, o.status, 'nothing'))
    from summary s join instance i on i.id = s.saga_id left join outbox o on o.id = s.saga_id
    where s.last_status is distinct from coalesce(i.status, o.status)
      and (s.last_status, o.status) is distinct from ('CREATED', 'EXECUTING')
    union all
    select i.id, 'a finished saga has a history', i.status
    from instance i where i.status is not null and not exists (select from transition t where t.saga_id = i.id)
    union all
    select h.saga_id, 'a fence only rises', format('seq %s has fence %s after %s', h.seq, h.fence, h.fence_before)
    from history h where h.kind <> 'act' and h.fence < h.fence_before
    union all
    select h.saga_id, 'no attempt is missing', format('seq %s is attempt %s of step "%s" after %s',
        h.seq, h.attempt, h.step, coalesce(h.attempt_before, 0))
    from history h where h.kind <> 'act' and h.attempt <> coalesce(h.attempt_before, 0) + 1
      and not (h.kind = 'reconcile' and h.attempt = 1)  -- it is asked again after each attempt in doubt
    union all
    select h.saga_id, 'a command is done once', format('command %s (step "%s") went on after it was done', h.ordinal, h.step)
    from history h
    where h.kind <> 'act' and h.outcome = 'done' and exists (
        select from transition t
        where t.saga_id = h.saga_id and t.ordinal = h.ordinal and t.kind <> 'act' and t.seq > h.seq)
    union all
    select i.id, 'a completed saga did every step', format('step "%s" was not done', d.name)
    from instance i join definition f on f.type = i.type and f.version = i.version and f.registered_at <= i.created_at
    join definition_step d on d.type = i.type and d.version = i.version
    left join summary s on s.saga_id = i.id
    where i.status = 'COMPLETED' and not coalesce(s.resolved, false) and not d.optional and not exists (
        select from command c
        where c.saga_id = i.id and c.step = d.name and c.kind in ('action', 'reconcile')
          and (c.outcome in ('done', 'skipped', 'joined') or d.best_effort))
      and not exists (
        select from passed_over g where g.saga_id = i.id and d.position > g.after and d.position < g.before)
    union all
    select u.saga_id, 'a completed saga undid nothing', format('step "%s" was undone', u.step)
    from undone u join instance i on i.id = u.saga_id join summary s on s.saga_id = u.saga_id
    where i.status = 'COMPLETED' and not s.resolved
    union all
    select i.id, 'a failed saga undid what it did', format('step "%s" (command %s) was %s and is not undone', c.step, c.ordinal, c.outcome)
    from instance i join summary s on s.saga_id = i.id
    join definition f on f.type = i.type and f.version = i.version and f.registered_at <= i.created_at
    join command c on c.saga_id = i.id and c.kind in ('action', 'reconcile') and c.outcome in ('done', 'in_doubt')
    join definition_step d on d.type = i.type and d.version = i.version and d.name = c.step and d.undo
    where i.status = 'FAILED' and not s.resolved and not exists (
        select from undone u where u.saga_id = i.id and u.undoes = c.ordinal)
    union all
    select u.saga_id, 'undo goes in the reverse order',
        format('command %s was undone after command %s', u.undoes, u.undone_before)
    from undone u where u.undoes >= u.undone_before
    union all
    select u.saga_id, 'only what was done or in doubt is undone', format('step "%s" (command %s)', u.step, u.undoes)
    from undone u where not exists (
        select from command c
        where c.saga_id = u.saga_id and c.ordinal = u.undoes and c.kind in ('action', 'reconcile') and c.step = u.step
          -- retry: aborted between two attempts, with the effect of the first in doubt
          and c.outcome in ('done', 'in_doubt', 'retry'))
    union all
    select i.id, 'a failed saga is listed', 'it is not in failure'
    from instance i where i.status = 'FAILED' and not exists (select from failure f where f.saga_id = i.id)
    union all
    select f.saga_id, 'what is listed as failed has failed', format('it is %s', coalesce(i.status, 'alive, or gone'))
    from failure f left join instance i on i.id = f.saga_id where i.status is distinct from 'FAILED'
    union all
    select t.saga_id, 'a ticket is a live saga''s', format('it is %s', t.state)
    from ticket t where not t.untold and not exists (select from outbox o where o.id = t.saga_id)
    union all
    select s.saga_id, 'a slot is a live saga''s', format('of limit "%s" %s', s.name, s.key)
    from slot s
    where not exists (select from ticket t where t.saga_id = s.saga_id and not t.fresh)
      and not exists (select from gate g where g.type = s.type and g.swept_at is not null)
    union all
    select t.saga_id, 'a saga that runs holds its slots', format('it holds none of limit "%s"', l.name)
    from ticket t
    join instance i on i.id = t.saga_id
    join saga_limit l on l.type = t.type and l.amount is not null and l.per is null
    left join slot s on s.type = t.type and s.name = l.name and s.saga_id = t.saga_id
    where t.state = 'running' and s.saga_id is null and limit_key(i.input, l.path) is not null
    union all
    select o.id, 'a command of a type with limits is held once it was let in',
        format('worker %s holds it, its saga is %s', o.worker, coalesce(t.state, 'not known to the gate'))
    from outbox o
    join gate g on g.type = o.type
    left join ticket t on t.saga_id = coalesce(o.root, o.id)
    where o.worker is not null and t.state is distinct from 'running' and g.swept_at is null
$$;
comment on function audit is 'Every violated invariant, none if all is well; correct while workers run: select * from saga.audit()';

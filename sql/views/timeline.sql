create view timeline as
select i.id as saga_id, 0 as seq, i.created_at as at, null::interval as after, null::text as step,
    null::text as kind, null::integer as attempt, 'started' as outcome, null::text as from_status,
    'CREATED' as to_status, 'CREATED' as state, i.input::json as result, null::text as error,
    null::interval as took, null::timestamptz as next_due, null::uuid as worker,
    format('%s %s started', i.type, i.key) || case when r.of is null then ''
        else format(' by %s as a rerun of %s: %s', r.actor, r.of, r.note) end as what,
    null::integer as element, null::uuid as line, null::integer as ordinal, null::integer as undoes,
    null::jsonb as error_detail
from instance i
left join rerun r on r.saga_id = i.id
union all
select r.of, last.seq, r.at, null, null, 'act', null, 'act', i.status, i.status, i.state, null, null, null, null, null,
    format('rerun by %s as %s: %s', r.actor, r.saga_id, r.note), null, null, null, null, null
from rerun r
join instance i on i.id = r.of
cross join lateral (select max(t.seq) as seq from transition t where t.saga_id = r.of) as last
union all
select t.saga_id, t.seq, t.at,
    t.at - coalesce(lag(t.at) over (partition by t.saga_id order by t.seq), i.created_at),
    t.step, t.kind, t.attempt, t.outcome, t.from_status, t.to_status,
    coalesce(t.state, case t.to_status when 'COMPLETED' then t.to_status else s.state end), t.result,
    nullif(concat_ws(': ', t.error ->> 'type', t.error ->> 'message'), ''),
    make_interval(secs => t.took), t.due_at, t.worker,
    case t.kind
        -- Without an act of a person's, the engine's own: the saga that started this one is undone.
        when 'act' then coalesce(a.act || ' by ' || a.actor || ': ' || a.note, t.error ->> 'message', 'moved on')
        when 'compensation' then format('undo of %s: %s', name.at, t.outcome)
        else format('%s: %s', name.at, t.outcome) end
        -- What waits is claimed twice, to begin and to end; nothing was tried again by that.
        || case when t.attempt > 1 and t.kind <> 'act' and s.does = 'action'
                then format(' (attempt %s)', t.attempt) else '' end
        || case when t.to_status <> t.from_status then format(', now %s', t.to_status) else '' end,
    t.element, t.line, t.ordinal, t.undoes, t.error
from transition t
join instance i on i.id = t.saga_id
left join definition_step s on s.type = i.type and s.version = i.version and s.name = t.step
left join act a on a.saga_id = t.saga_id and a.seq = t.seq
cross join lateral (select t.step || coalesce('/' || t.element, '') as at) as name;
comment on view timeline is 'Every transition, readable: select * from timeline where saga_id = … order by seq';

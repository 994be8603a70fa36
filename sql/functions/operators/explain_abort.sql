-- What an abort of a saga would come to, in order. what: 'finishes' runs now and ends first; 'undo' is
-- undone; 'stays' is done and cannot be undone, why says for what reason.
create or replace function explain_abort(p_saga uuid)
returns table (
    place bigint, what text, step text, element integer, ordinal integer, transactional boolean,
    in_doubt boolean, why text)
language plpgsql stable security definer set search_path from current as $$
#variable_conflict use_column
declare
    v_main outbox;
    v_instance instance;
begin
    select * into v_main from outbox where id = p_saga;
    if not found then
        select * into v_instance from instance where id = p_saga;
        if not found then
            raise exception 'no saga has the id %', p_saga using errcode = 'SG004';
        end if;
        raise exception 'saga % has ended: it is % since %', p_saga, v_instance.status, v_instance.ended_at
            using errcode = 'SG005';
    end if;
    return query
        with line as (
            select o.* from outbox o
            where (o.id = p_saga or o.root = p_saga) and o.awaits is distinct from 'lines'
        ),
        command as (
            select distinct on (t.ordinal) t.ordinal, t.step, t.outcome, t.element
            from transition t
            where t.saga_id = p_saga and t.kind in ('action', 'reconcile')
            order by t.ordinal, t.seq desc
        ),
        known as (
            -- What waits, or is suspended, with an attempt in doubt is undone as well.
            select c.ordinal, c.step, c.element,
                coalesce(l.id is not null, c.outcome = 'in_doubt') as in_doubt, false as runs
            from command c
            left join line l on l.ordinal = c.ordinal and l.kind <> 'compensation'
                and (l.doubt_until is not null or l.awaits = 'saga')
            where (c.outcome in ('done', 'in_doubt') or l.id is not null)
              and not exists (select from line r where r.ordinal = c.ordinal and r.kind <> 'compensation' and r.worker is not null)
              and (v_main.kind <> 'compensation' or c.ordinal <= v_main.undoes)
            union all
            select l.ordinal, l.step, case when l.elements is null then l.element end,
                l.doubt_until is not null, true
            from line l where l.worker is not null and l.kind <> 'compensation'
        ),
        judged as (
            select k.*, s.undo, s.undo_transactional, s.after_pivot, s.pivot, s.nothing_to_undo, s.does
            from known k
            join definition_step s on s.type = v_main.type and s.version = v_main.version and s.name = k.step
        ),
        listed as (
            select 1 as part, 'finishes' as what, j.*, case when j.undo
                then 'it runs now; once it has ended it is undone'
                else 'it runs now, and has no compensation' end as why
            from judged j where j.runs
            union all
            select 2, 'undo', j.*, case
                when j.in_doubt then 'it is in doubt: undone without a result'
                when j.does = 'saga' then 'its sub-saga is undone' end
            from judged j where j.undo and not j.runs
            union all
            select 3, 'stays', j.*, coalesce(
                'nothing to undo: ' || j.nothing_to_undo,
                case when j.pivot then 'it is the pivot, and has no compensation'
                     when j.after_pivot then 'it is after the pivot, and has no compensation'
                     else 'it has no compensation' end)
            from judged j where not j.undo and not j.runs and j.does in ('action', 'saga')
        )
        select row_number() over (order by l.part, l.ordinal desc), l.what, l.step, l.element, l.ordinal,
            l.undo and l.undo_transactional, l.in_doubt, l.why
        from listed l order by 1;
end $$;
comment on function explain_abort is 'What an abort would undo, in order, and what would stay: select * from saga.explain_abort(id)';

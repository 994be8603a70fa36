-- Why a saga cannot go on in another version of its type, in words, or null: every step of its history and
-- its current one must be there, in the same order and of the same nature, and no step that it would have
-- to have done by now may be new.
create or replace function move_problem(p_main outbox, p_version integer) returns text
language sql stable set search_path from current as $$
    with past as (
        select distinct t.step from transition t where t.saga_id = (p_main).id and t.kind <> 'act'
        union
        select (p_main).step where (p_main).status <> 'CREATED'
    ),
    placed as (
        select p.step, a.position as before, b.position as after, b.name is not null as there,
            (a.does, a.undo, a.pivot, a.fans_out, a.reconciles, a.signal)
                is not distinct from (b.does, b.undo, b.pivot, b.fans_out, b.reconciles, b.signal) as same,
            a.undo as had, b.undo as has, a.pivot as was_pivot, b.pivot as is_pivot
        from past p
        join definition_step a on a.type = (p_main).type and a.version = (p_main).version and a.name = p.step
        left join definition_step b on b.type = (p_main).type and b.version = p_version and b.name = p.step
    ),
    ordered as (
        select p.*, lag(p.after) over (order by p.before) as after_before, lag(p.step) over (order by p.before) as step_before
        from placed p where p.there
    )
    select problem from (
        select 1 as part, p.before as place, format('step "%s" is not in version %s', p.step, p_version) as problem
        from placed p where not p.there
        union all
        select 2, p.before, format('step "%s" is another one in version %s: %s', p.step, p_version, case
            when p.had <> p.has then case when p.has then 'it has a compensation now' else 'it has no compensation any more' end
            when p.was_pivot <> p.is_pivot then case when p.is_pivot then 'it is the pivot now' else 'it is not the pivot any more' end
            else 'it does something else' end)
        from placed p where p.there and not p.same
        union all
        select 3, o.before, format('step "%s" comes before "%s" in version %s', o.step, o.step_before, p_version)
        from ordered o where o.after < o.after_before
        union all
        select 4, b.position, format('step "%s" of version %s would have been done by now', b.name, p_version)
        from definition_step b
        where b.type = (p_main).type and b.version = p_version and not b.optional
          and b.position < (select p.after from placed p where p.step = (p_main).step)
          and (p_main).kind <> 'compensation' and (p_main).status <> 'CREATED'
          and not exists (select from past p where p.step = b.name)
    ) as found
    order by part, place limit 1
$$;

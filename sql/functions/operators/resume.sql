-- Operator act: lets a type go on that pause() stopped or, without a type, ends the pause of everything.
-- What is paused otherwise as well stays paused. Returns how many commands are due now.
create or replace function resume(p_note text, p_type text default null) returns integer
language plpgsql security definer set search_path from current as $$
declare
    v_now timestamptz := clock();
    v_type text;
begin
    perform pauses_lock(p_note);
    update pause set resumed_at = v_now, resumed_by = actor(), resume_note = p_note
    where saga_id is null and resumed_at is null and type is not distinct from p_type;
    if not found then
        raise exception '% is not paused', coalesce('saga type "' || p_type || '"', 'the whole installation')
            using errcode = 'SG005', hint = 'Paused are: ' || coalesce((
                select string_agg(coalesce(p.type, 'saga ' || p.saga_id, 'everything'), ', ' order by p.at)
                from (select * from pause where resumed_at is null order by at limit 10) as p),
                'none') || '. Nothing was changed.';
    end if;
    perform pauses_note();
    for v_type in
        select distinct t from worker w, unnest(w.types) as t where p_type is null or t = p_type
    loop
        perform wake(v_type);
    end loop;
    return (select count(*) from outbox o
            where o.worker is null and o.status <> 'SUSPENDED' and o.due_at <= v_now
              and (p_type is null or o.type = p_type) and not is_paused(coalesce(o.root, o.id), o.type));
end $$;
comment on function resume is 'Operator act: end a pause of a type, or of everything: select saga.resume(''why'', ''payment'')';

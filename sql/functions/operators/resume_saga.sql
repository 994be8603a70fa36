-- Operator act: lets a saga go on that pause_saga() stopped. Returns its status.
create or replace function resume_saga(p_saga uuid, p_note text, p_seq integer default null) returns text
language plpgsql security definer set search_path from current as $$
declare
    v_row outbox;
    v_now timestamptz := clock();
begin
    perform pauses_lock(p_note);
    v_row := operator_lock(p_saga, p_seq, p_note);
    update pause set resumed_at = v_now, resumed_by = actor(), resume_note = p_note
        where saga_id = p_saga and resumed_at is null;
    if not found then
        raise exception 'saga % is not paused: it is %', p_saga, v_row.status
                || case when is_paused(p_saga, v_row.type) then ', and its type or everything is paused' else '' end
            using errcode = 'SG005', hint = 'Nothing was changed.';
    end if;
    perform record_act(v_row, 'resume', p_note, null, v_now);
    perform pauses_note();
    perform wake(v_row.type);
    return (select o.status from outbox o where o.id = p_saga);
end $$;
comment on function resume_saga is 'Operator act: end the pause of a saga: select saga.resume_saga(id, ''why'')';

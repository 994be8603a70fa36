-- Operator act: pauses one saga. What is in flight of it finishes its attempt, then nothing of it begins
-- until resume_saga(); it takes signals, and may be cancelled, meanwhile. Its sub-sagas go on. Returns
-- its status.
create or replace function pause_saga(p_saga uuid, p_note text, p_seq integer default null) returns text
language plpgsql security definer set search_path from current as $$
declare
    v_row outbox;
    v_old pause;
    v_now timestamptz := clock();
begin
    perform pauses_lock(p_note);
    v_row := operator_lock(p_saga, p_seq, p_note);
    select * into v_old from pause where saga_id = p_saga and resumed_at is null;
    if found then
        raise exception 'saga % is paused already, by % since %: %', p_saga, v_old.actor, v_old.at, v_old.note
            using errcode = 'SG005', hint = 'Nothing was changed.';
    end if;
    perform record_act(v_row, 'pause', p_note, null, v_now);
    insert into pause (saga_id, note, actor, at) values (p_saga, p_note, actor(), v_now);
    perform pauses_note();
    return (select o.status from outbox o where o.id = p_saga);
end $$;
comment on function pause_saga is 'Operator act: begin nothing more of a saga: select saga.pause_saga(id, ''why'')';

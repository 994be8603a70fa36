-- Undoes a saga whose business transaction is no longer wanted. Once its pivot is done that is refused,
-- unless p_force. What is in flight finishes first and is then undone; the saga ends as FAILED, in the
-- state CANCELLED. Returns its status after the act.
create or replace function cancel(
    p_saga uuid, p_note text, p_force boolean default false, p_seq integer default null) returns text
language plpgsql security definer set search_path from current as $$
declare
    v_row outbox := operator_lock(p_saga, p_seq, p_note);
    v_pivot text;
begin
    select s.name into v_pivot
    from definition_step s
    join transition t on t.saga_id = p_saga and t.step = s.name
    where s.type = v_row.type and s.version = v_row.version and s.pivot
      and t.kind <> 'compensation' and t.outcome = 'done' limit 1;
    if v_pivot is not null and not p_force then
        raise exception 'saga % is past its pivot, step "%"', p_saga, v_pivot
            using errcode = 'SG005', hint = 'Force it to undo the pivot too. Nothing was changed.';
    end if;
    return undo_by_hand(v_row, 'cancel', p_note, jsonb_build_object('type', 'Cancelled', 'message', p_note));
end $$;
comment on function cancel is 'Operator act: undo a saga that is no longer wanted: select saga.cancel(id, ''why'')';

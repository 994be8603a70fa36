-- Operator act: undoes everything that declares a compensation, the pivot's and what is after it
-- included. What is in flight finishes first and is then undone. Returns the saga's status after it.
create or replace function abort(p_saga uuid, p_note text, p_seq integer default null) returns text
language plpgsql security definer set search_path from current as $$
declare
    v_row outbox := operator_lock(p_saga, p_seq, p_note);
begin
    return undo_by_hand(v_row, 'abort', p_note, jsonb_build_object('type', 'Aborted', 'message', p_note));
end $$;
comment on function abort is 'Operator act: undo a saga, past its pivot too: select saga.abort(id, ''why'')';

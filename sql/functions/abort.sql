-- Operator act: undoes everything that declares a compensation, the pivot's and what is after it
-- included. A step in flight finishes first and is then undone. Returns the saga's status after it.
create or replace function abort(p_saga uuid, p_note text, p_seq integer default null) returns text
language plpgsql security definer set search_path from current as $$
declare
    v_row outbox := operator_lock(p_saga, p_seq, p_note);
    v_now timestamptz := clock();
    v_error jsonb := jsonb_build_object('type', 'Aborted', 'message', p_note);
    v_ordinal integer;
    v_step text;
    v_to text;
begin
    if v_row.kind = 'compensation' then
        raise exception 'saga % is being undone already', p_saga
            using errcode = 'SG005', hint = 'To run a failed compensation again: retry. Nothing was changed.';
    elsif v_row.worker is not null then
        -- Without raising the fence: what runs now is kept, and undone by its own advance.
        perform record_act(v_row, 'abort', p_note, v_row.status, v_row.state, v_error, v_now);
        update outbox set abort = true, seq = seq + 1, moved_at = v_now where id = p_saga;
        return v_row.status;
    end if;

    if v_row.doubt_until is not null and exists (
        select from definition_step s
        where s.type = v_row.type and s.version = v_row.version and s.name = v_row.step and s.undo)
    then
        v_ordinal := v_row.ordinal;
        v_step := v_row.step;
    else
        select u.ordinal, u.step into v_ordinal, v_step
        from undo_target(p_saga, v_row.type, v_row.version, v_row.ordinal) as u;
    end if;
    v_to := case when v_ordinal is null then 'FAILED' else 'COMPENSATING' end;
    perform record_act(v_row, 'abort', p_note, v_to, v_to, v_error, v_now);
    if v_to = 'FAILED' then
        delete from outbox where id = p_saga;
        update instance set status = v_to, state = v_to, error = v_error, ended_at = v_now where id = p_saga;
    else
        update outbox
        set status = v_to, state = v_to, seq = seq + 1, fence = fence + 1, kind = 'compensation',
            step = v_step, undoes = v_ordinal, ordinal = ordinal + 1, attempt = 0, failures = 0, deaths = 0,
            revision = 0, reason = null, moved_at = v_now, doubt_until = null, abort = false,
            due_at = greatest(v_now, v_row.doubt_until)
        where id = p_saga;
        perform wake(v_row.type);
    end if;
    return v_to;
end $$;
comment on function abort is 'Operator act: undo a saga, past its pivot too: select saga.abort(id, ''why'')';

-- Operator act: closes a suspended saga as COMPLETED or FAILED, because it was settled by hand.
create or replace function resolve(p_saga uuid, p_status text, p_note text, p_seq integer default null)
returns text language plpgsql security definer set search_path from current as $$
declare
    v_row outbox;
    v_now timestamptz := clock();
    v_error jsonb;
    v_running text;
begin
    if p_status is null or p_status not in ('COMPLETED', 'FAILED') then
        raise exception 'a saga is resolved as COMPLETED or FAILED, not as "%"', p_status using errcode = 'SG002';
    end if;
    v_row := operator_lock(p_saga, p_seq, p_note);
    if not exists (select from outbox where (id = p_saga or root = p_saga) and status = 'SUSPENDED') then
        raise exception 'saga % is %, only a suspended one can be resolved', p_saga, v_row.status
            using errcode = 'SG005', hint = 'Nothing was changed.';
    end if;
    select o.step into v_running from outbox o where o.root = p_saga and o.worker is not null limit 1;
    if found then
        raise exception 'saga % is running step "%" now', p_saga, v_running
            using errcode = 'SG005', hint = 'Wait for its end; nothing was changed.';
    end if;
    v_error := case p_status when 'FAILED' then jsonb_build_object('type', 'Resolved', 'message', p_note) end;
    perform record_act(v_row, 'resolve', p_note, v_error, v_now);
    delete from outbox where root = p_saga;
    perform saga_ends(p_saga, p_status, v_error, v_now);
    update instance set output = null, error = v_error where id = p_saga;
    perform show_move(p_saga);
    return p_status;
end $$;
comment on function resolve is 'Operator act: close a suspended saga that was settled by hand: select saga.resolve(id, ''FAILED'', ''why'')';

-- What abort() and cancel() have in common.
create or replace function undo_by_hand(p_row outbox, p_act text, p_note text, p_error jsonb) returns text
language plpgsql set search_path from current as $$
declare
    v_now timestamptz := clock();
begin
    if (p_row).kind = 'compensation' then
        raise exception 'saga % is being undone already', (p_row).id
            using errcode = 'SG005', hint = 'To run a failed compensation again: retry. Nothing was changed.';
    end if;
    perform record_act(p_row, p_act, p_note, p_error, v_now);
    perform abort_saga(p_row, p_error, v_now);
    perform show_move((p_row).id);
    return (select coalesce(i.status, o.status::text)
            from instance i left join outbox o on o.id = i.id where i.id = (p_row).id);
end $$;

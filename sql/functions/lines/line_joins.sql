-- All that a line waited for side by side has ended: its group is done.
create or replace function line_joins(p_line uuid, p_now timestamptz)
returns void language plpgsql set search_path from current as $$
declare
    v_line outbox;
    v_step definition_step;
begin
    select * into strict v_line from outbox where id = p_line;
    select s.* into strict v_step from definition_step s
    where s.type = v_line.type and s.version = v_line.version and s.name = v_line.step;
    update outbox set state = v_step.state where id = coalesce(v_line.root, p_line);
    v_line.element := case when v_line.elements is null then v_line.element end;
    if v_line.root is null then
        -- Its own number has been used to count those that it waited for.
        update outbox set ordinal = ordinal + 1, attempt = 0 where id = p_line
            returning ordinal, attempt into v_line.ordinal, v_line.attempt;
    end if;
    perform record(v_line, 'action', 'joined', p_now, p_state => v_step.state);
    perform line_goes_on(p_line, v_step.next, null, p_now);
end $$;

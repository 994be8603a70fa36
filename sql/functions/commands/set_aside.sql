-- A command that cannot be handed to a worker, whatever is wrong with it, has to be looked at by a person.
-- If somebody holds another row of its saga, it is given back instead, and claimed once more.
create or replace function set_aside(p_command uuid, p_message text, p_now timestamptz) returns void
language plpgsql set search_path from current as $$
declare
    v_line outbox;
begin
    select * into strict v_line from outbox where id = p_command;
    if try_saga(coalesce(v_line.root, v_line.id)) then
        perform line_suspends(
            v_line, jsonb_build_object('type', 'NotHandedOver', 'message',
                format('it cannot be handed to a worker: %s', p_message)), null, v_line.worker, p_now);
        perform show_move(coalesce(v_line.root, v_line.id));
    else
        update outbox set worker = null, deadline = null, fence = fence + 1 where id = p_command;
    end if;
end $$;

-- Ends a recurring saga; what it started goes on.
create or replace function drop_schedule(p_name text, p_note text default null) returns void
language plpgsql security definer set search_path from current as $$
declare
    v_old schedule := find_schedule(p_name);
begin
    delete from schedule where name = p_name;
    perform note_change('schedule', 'drop', v_old.type, p_name, p_note, schedule_rule(v_old), null);
end $$;
comment on function drop_schedule is 'Ends a recurring saga: select saga.drop_schedule(''nightly'')';

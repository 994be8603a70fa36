-- Lets a recurring saga rest: no tick starts anything until resume_schedule().
create or replace function pause_schedule(p_name text, p_note text default null) returns void
language plpgsql security definer set search_path from current as $$
declare
    v_old schedule := find_schedule(p_name);
    v_new schedule;
begin
    update schedule set paused = true where name = p_name returning * into v_new;
    perform note_change('schedule', 'pause', v_old.type, p_name, p_note, schedule_rule(v_old), schedule_rule(v_new));
end $$;
comment on function pause_schedule is 'Lets a recurring saga rest: select saga.pause_schedule(''nightly'')';

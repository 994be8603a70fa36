-- Has a recurring saga go on that was paused. Ticks of the pause are not caught up.
create or replace function resume_schedule(p_name text, p_note text default null) returns void
language plpgsql security definer set search_path from current as $$
declare
    v_old schedule := find_schedule(p_name);
    v_new schedule;
begin
    if not v_old.paused then
        return;
    end if;
    update schedule set paused = false, last_tick = clock(), next_tick = null where name = p_name returning * into v_new;
    perform note_change('schedule', 'resume', v_old.type, p_name, p_note, schedule_rule(v_old), schedule_rule(v_new));
end $$;
comment on function resume_schedule is 'Has a paused recurring saga go on: select saga.resume_schedule(''nightly'')';

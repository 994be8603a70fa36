-- Has a recurring saga go on that was paused. Ticks of the pause are not caught up.
create or replace function resume_schedule(p_name text) returns void
language plpgsql security definer set search_path from current as $$
begin
    perform find_schedule(p_name);
    update schedule set paused = false, last_tick = clock(), next_tick = null where name = p_name and paused;
end $$;
comment on function resume_schedule is 'Has a paused recurring saga go on: select saga.resume_schedule(''nightly'')';

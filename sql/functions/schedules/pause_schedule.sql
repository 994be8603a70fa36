-- Lets a recurring saga rest: no tick starts anything until resume_schedule().
create or replace function pause_schedule(p_name text) returns void
language plpgsql security definer set search_path from current as $$
begin
    perform find_schedule(p_name);
    update schedule set paused = true where name = p_name;
end $$;
comment on function pause_schedule is 'Lets a recurring saga rest: select saga.pause_schedule(''nightly'')';

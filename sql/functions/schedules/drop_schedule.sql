-- Ends a recurring saga; what it started goes on.
create or replace function drop_schedule(p_name text) returns void
language plpgsql security definer set search_path from current as $$
begin
    perform find_schedule(p_name);
    delete from schedule where name = p_name;
end $$;
comment on function drop_schedule is 'Ends a recurring saga: select saga.drop_schedule(''nightly'')';

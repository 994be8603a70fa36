-- Locks a schedule, or says that there is none.
create or replace function find_schedule(p_name text) returns schedule
language plpgsql set search_path from current as $$
declare
    v_schedule schedule;
begin
    select * into v_schedule from schedule where name = p_name for update;
    if not found then
        raise exception 'there is no schedule "%"', p_name using errcode = 'SG004',
            hint = 'There are: ' || coalesce((select string_agg(name, ', ' order by name) from schedule), 'none');
    end if;
    return v_schedule;
end $$;

-- Ends a limit, one that the program declares too: that stays off until set_limit() sets it again.
create or replace function drop_limit(p_type text, p_name text, p_note text default null) returns void
language plpgsql security definer set search_path from current as $$
declare
    v_limit saga_limit;
begin
    perform 1 from gate where type = p_type for update;
    select * into v_limit from saga_limit where type = p_type and name = p_name;
    if v_limit.amount is null then
        raise exception 'saga type "%" has no limit "%"', p_type, p_name using errcode = 'SG004',
            hint = 'It has: ' || coalesce((
                select string_agg(name, ', ') from saga_limit where type = p_type and amount is not null), 'none');
    end if;
    update saga_limit set amount = null, version = null where type = p_type and name = p_name;
    perform note_change('limit', 'drop', p_type, p_name, p_note, limit_rule(v_limit), null);
    perform open_gate(p_type, p_name);
end $$;
comment on function drop_limit is 'Ends a limit: select saga.drop_limit(''payment'', ''customer'')';

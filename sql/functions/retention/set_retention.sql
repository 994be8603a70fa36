-- How long finished sagas of a type are kept, instead of setting.retention.
create or replace function set_retention(p_type text, p_keep interval, p_note text default null) returns void
language plpgsql security definer set search_path from current as $$
declare
    v_old interval;
begin
    if p_keep is null or p_keep <= '0' then
        raise exception 'finished sagas of type "%" are kept for more than %', p_type, p_keep
            using errcode = 'SG002', hint = 'To keep them as long as all others: select drop_retention(…).';
    elsif not exists (select from definition where type = p_type) then
        raise exception 'unknown saga type "%"', p_type using errcode = 'SG001',
            hint = 'Registered: ' || coalesce((select string_agg(distinct type, ', ') from definition), 'none yet');
    end if;
    select keep into v_old from retention where type = p_type for update;
    insert into retention (type, keep) values (p_type, p_keep)
    on conflict (type) do update set keep = excluded.keep;
    perform note_change('retention', 'set', p_type, null, p_note, keep_rule(v_old), keep_rule(p_keep));
end $$;
comment on function set_retention is 'How long finished sagas of a type are kept: select saga.set_retention(''payment'', ''2 years'')';

-- Finished sagas of a type are kept as long as setting.retention says again.
create or replace function drop_retention(p_type text, p_note text default null) returns void
language plpgsql security definer set search_path from current as $$
declare
    v_old interval;
begin
    delete from retention where type = p_type returning keep into v_old;
    if not found then
        raise exception 'saga type "%" has no retention of its own', p_type using errcode = 'SG004',
            hint = 'These have: ' || coalesce((select string_agg(type, ', ' order by type) from retention), 'none');
    end if;
    perform note_change('retention', 'drop', p_type, null, p_note, keep_rule(v_old), null);
end $$;
comment on function drop_retention is 'Finished sagas of a type are kept as long as all others: select saga.drop_retention(''payment'')';

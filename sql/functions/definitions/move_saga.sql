-- Operator act: has a live saga go on in another version of its type, where its history fits: see
-- move_problem(). Refused while a worker holds it, and while it has lines side by side. Returns its status.
create or replace function move_saga(p_saga uuid, p_version integer, p_note text, p_seq integer default null)
returns text language plpgsql security definer set search_path from current as $$
declare
    v_row outbox;
    v_new definition;
    v_problem text;
    v_now timestamptz := clock();
begin
    -- Until the commit, so that the definition stays what it is.
    perform pg_advisory_xact_lock_shared(doze_key());
    v_row := operator_lock(p_saga, p_seq, p_note);
    select * into v_new from definition d where d.type = v_row.type and d.version = p_version;
    if not found then
        raise exception 'unknown saga type "%" version %', v_row.type, p_version using errcode = 'SG001',
            hint = 'Registered: version ' || (
                select string_agg(d.version::text, ', ' order by d.version) from definition d where d.type = v_row.type)
                || '. Nothing was changed.';
    end if;
    v_problem := case
        when v_row.version = p_version then 'it is of that version'
        when exists (select from outbox where root = p_saga)
            then 'it has lines side by side: ' || standing(p_saga)
        when v_row.worker is not null then format('it is running step "%s" now', v_row.step)
        else coalesce(move_problem(v_row, p_version), (
            select 'its input does not fit: ' || input_problem(
                i.input, v_new.input_fields, v_new.input_schema -> 'additionalProperties' = 'false')
            from instance i where i.id = p_saga)) end;
    if v_problem is not null then
        raise exception 'saga % (%, version %) cannot go on in version %: %', p_saga, v_row.status, v_row.version,
            p_version, v_problem using errcode = 'SG005', hint = 'Nothing was changed.';
    end if;
    perform record_act(v_row, 'move', p_note, null, v_now,
        p_detail => jsonb_build_object('from', v_row.version, 'to', p_version));
    update outbox
    set version = p_version, fence = fence + 1,
        step = case when v_row.status = 'CREATED' then (
            select s.name from definition_step s
            where s.type = v_row.type and s.version = p_version and s.position = 1) else step end
    where id = p_saga;
    update instance set version = p_version where id = p_saga;
    update ticket set version = p_version where saga_id = p_saga;
    if found then
        insert into knock (type, version) values (v_row.type, p_version);
    end if;
    perform show_move(p_saga);
    perform wake(v_row.type);
    return v_row.status;
end $$;
comment on function move_saga is 'Operator act: go on in another version: select saga.move_saga(id, 2, ''why'')';

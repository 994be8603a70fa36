-- The first statement of every operator act: locks a live saga's row and refuses what does not apply.
-- p_seq is the seq that the operator saw, null for "whatever it is".
create or replace function operator_lock(p_saga uuid, p_seq integer, p_note text) returns outbox
language plpgsql set search_path from current as $$
declare
    v_row outbox;
    v_instance instance;
begin
    if coalesce(trim(p_note), '') = '' then
        raise exception 'an operator act needs a note that says why' using errcode = 'SG002';
    end if;
    perform lock_sagas(array[p_saga]);
    select * into v_row from outbox where id = p_saga;
    if not found then
        select * into v_instance from instance where id = p_saga;
        if not found then
            raise exception 'no saga has the id %', p_saga using errcode = 'SG004';
        end if;
        raise exception 'saga % has ended: it is % since %', p_saga, v_instance.status, v_instance.ended_at
            using errcode = 'SG005', hint = 'Nothing was changed.';
    end if;
    if p_seq is not null and v_row.seq <> p_seq then
        raise exception 'saga % has moved on: you saw seq %, it is at seq % now (%)', p_saga, p_seq, v_row.seq,
            coalesce((
                select string_agg(format('%s %s %s', t.seq, t.step, t.outcome), ', ' order by t.seq)
                from transition t where t.saga_id = p_saga and t.seq > p_seq), 'nothing came after that')
            using errcode = 'SG006', hint = 'Look at it again; nothing was changed.';
    end if;
    return v_row;
end $$;

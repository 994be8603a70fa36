-- Operator act: starts a new saga with the type, version and input of one that has ended; with p_newest in
-- the newest version. Its key, unless one is given, is "<old key>/rerun/<number>". Both know of each other.
create or replace function rerun(
    p_saga uuid, p_note text, p_key text default null, p_newest boolean default false, p_seq integer default null)
returns uuid language plpgsql security definer set search_path from current as $$
declare
    v_old instance;
    v_seq integer;
    v_number integer;
    v_key text := p_key;
    v_new record;
begin
    if coalesce(trim(p_note), '') = '' then
        raise exception 'an operator act needs a note that says why' using errcode = 'SG002';
    end if;
    select * into v_old from instance where id = p_saga for no key update;
    if not found then
        raise exception 'no saga has the id %', p_saga using errcode = 'SG004';
    elsif v_old.status is null then
        raise exception 'saga % has not ended: it is %, %', p_saga,
            (select o.status from outbox o where o.id = p_saga), standing(p_saga)
            using errcode = 'SG005', hint = 'Cancel or resolve it first. Nothing was changed.';
    end if;
    v_seq := (select max(t.seq) from transition t where t.saga_id = p_saga);
    if v_seq <> p_seq then
        raise exception 'saga % has moved on: you saw seq %, it is at seq % now', p_saga, p_seq, v_seq
            using errcode = 'SG006', hint = 'Look at it again; nothing was changed.';
    end if;
    v_number := 1 + coalesce((select max(r.number) from rerun r where r.of = p_saga), 0);
    loop
        v_key := coalesce(p_key, format('%s/rerun/%s', v_old.key, v_number));
        select * into v_new from start_many(
            v_old.type, array[v_old.input], array[v_key], case when not p_newest then v_old.version end);
        exit when v_new.created;
        if p_key is not null then
            raise exception 'a saga of type "%" with key "%" exists: %', v_old.type, p_key, v_new.id
                using errcode = 'SG003', hint = 'Give another key, or none. Nothing was changed.';
        end if;
        v_number := v_number + 1;
    end loop;
    insert into rerun (saga_id, of, number, actor, note, at)
    values (v_new.id, p_saga, v_number, actor(), p_note, clock());
    return v_new.id;
end $$;
comment on function rerun is 'Operator act: start a saga anew that has ended: select saga.rerun(id, ''why'')';

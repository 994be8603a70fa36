-- Moves the live sagas of a version to another one, one row back for each: outcome is its status, problem
-- why it stays where it is. With p_dry_run nothing moves.
create or replace function move_many(
    p_type text, p_from integer, p_to integer, p_note text, p_dry_run boolean default false,
    p_limit integer default 1000)
returns table (saga_id uuid, key text, step text, outcome text, problem text)
language plpgsql security definer set search_path from current as $$
#variable_conflict use_column
declare
    v_found record;
    v_ids uuid[];
begin
    if coalesce(trim(p_note), '') = '' then
        raise exception 'an operator act needs a note that says why' using errcode = 'SG002';
    end if;
    for v_found in select d.version from unnest(array[p_from, p_to]) as d(version) loop
        if not exists (select from definition d where d.type = p_type and d.version = v_found.version) then
            raise exception 'unknown saga type "%" version %', p_type, v_found.version using errcode = 'SG001';
        end if;
    end loop;
    perform pg_advisory_xact_lock_shared(doze_key());
    v_ids := array(
        select o.id from outbox o
        where o.type = p_type and o.version = p_from and o.root is null order by o.id limit p_limit);
    if not p_dry_run then
        perform lock_many(v_ids);
    end if;
    for v_found in
        select o.id, i.key, o.step, o.seq from outbox o join instance i on i.id = o.id
        where o.id = any (v_ids) order by o.id
    loop
        saga_id := v_found.id;
        key := v_found.key;
        step := v_found.step;
        outcome := null;
        problem := null;
        begin
            outcome := move_saga(v_found.id, p_to, p_note, v_found.seq);
            if p_dry_run then
                raise exception using errcode = 'SG099', message = outcome;
            end if;
        exception
            when sqlstate 'SG099' then
                null;
            when others then
                problem := sqlerrm;
        end;
        return next;
    end loop;
end $$;
comment on function move_many is 'Moves live sagas to another version: select * from saga.move_many(''payment'', 1, 2, ''why'', true)';

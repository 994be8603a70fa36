-- Tells a saga something from outside. A step that waits for it goes on; what comes early is kept for
-- the step that asks for it; the same key counts once. Returns 'delivered', 'kept' or 'repeated'.
create or replace function signal(
    p_saga uuid, p_name text, p_payload json default null, p_key text default null)
returns text language plpgsql security definer set search_path from current as $$
declare
    v_instance instance;
    v_number bigint;
    v_line outbox;
    v_now timestamptz := clock();
begin
    select * into v_instance from instance where id = p_saga;
    if not found then
        raise exception 'no saga has the id %', p_saga using errcode = 'SG004';
    elsif p_name is null or p_name !~ '^[A-Za-z][A-Za-z0-9_.-]{0,99}$' then
        raise exception '"%" is no name of a signal: a letter and up to 99 letters, digits, _ . or -', p_name
            using errcode = 'SG002';
    elsif length(p_key) not between 1 and 512 then
        raise exception 'the key of a signal has % characters, 1 to 512 are allowed', length(p_key)
            using errcode = 'SG002';
    elsif position('\u0000' in p_payload::text) > 0 and p_payload::jsonb is null then
        return null;  -- the cast has refused it
    end if;
    perform lock_sagas(array[p_saga]);
    if not exists (select from outbox where id = p_saga) then
        if exists (select from signal g where g.saga_id = p_saga and g.name = p_name and g.key = p_key) then
            return 'repeated';
        end if;
        select * into v_instance from instance where id = p_saga;
        raise exception 'saga % has ended: it is % since %', p_saga, v_instance.status, v_instance.ended_at
            using errcode = 'SG005', hint = 'Nothing was changed.';
    end if;
    if not exists (
        select from definition_step s
        where s.type = v_instance.type and s.version = v_instance.version and s.signal = p_name)
    then
        raise exception 'no step of saga type "%" version % waits for a signal "%"',
            v_instance.type, v_instance.version, p_name
            using errcode = 'SG002', hint = coalesce('They wait for: ' || (
                select string_agg(distinct s.signal, ', ') from definition_step s
                where s.type = v_instance.type and s.version = v_instance.version and s.signal is not null),
                'None of them waits for a signal.');
    end if;
    insert into signal (saga_id, name, key, payload, actor, at)
    values (p_saga, p_name, coalesce(p_key, new_id()::text), p_payload, actor(), v_now)
    on conflict on constraint signal_once_a_key do nothing
    returning number into v_number;
    if not found then
        return 'repeated';
    end if;
    select o.* into v_line from outbox o
    join definition_step s on s.type = o.type and s.version = o.version and s.name = o.step
    where (o.id = p_saga or o.root = p_saga) and o.awaits = 'signal' and o.worker is null and s.signal = p_name
      and o.status in ('EXECUTING', 'SUSPENDED')
      and not exists (select from signal g where g.saga_id = p_saga and g.ordinal = o.ordinal)
    order by o.ordinal limit 1;
    if not found then
        return 'kept';
    end if;
    update signal set ordinal = v_line.ordinal where saga_id = p_saga and number = v_number;
    update outbox set due_at = v_now where id = v_line.id;
    perform wake(v_line.type);
    return 'delivered';
end $$;
comment on function signal is 'Tells a saga what it waits for: select saga.signal(id, ''approved'', ''{"by": "ann"}'', ''request-7'')';

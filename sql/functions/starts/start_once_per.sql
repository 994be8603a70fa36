-- Starts a saga at most once in a period for each key, counted from the last start: in between, the
-- saga that was started is returned, whatever the input. Each start's own key is <key>/<instant>.
create or replace function start_once_per(
    p_type text, p_input jsonb, p_key text, p_period interval, p_version integer default null,
    p_priority integer default 0)
returns table (id uuid, key text, created boolean)
language plpgsql security definer set search_path from current as $$
#variable_conflict use_column
declare
    v_now timestamptz;
    v_last once_per;
begin
    if p_key is null or length(p_key) not between 1 and 480 then
        raise exception 'a start once in a period needs a key of 1 to 480 characters, not "%"', left(p_key, 80)
            using errcode = 'SG002';
    elsif p_period is null or p_period <= '0' then
        raise exception 'a start once in a period needs a period of more than 0, not %', p_period using errcode = 'SG002';
    end if;
    insert into once_per as w (type, key, started_at, until) values (p_type, p_key, '-infinity', 'infinity')
    on conflict (type, key) do update set key = excluded.key
    returning * into v_last;
    v_now := clock();
    if v_last.started_at > v_now - p_period then
        return query select v_last.saga_id, v_last.saga_key, false;
        return;
    end if;
    select s.id, s.key into v_last.saga_id, v_last.saga_key
    from start_many(
        p_type, array[p_input], array[format('%s/%s', p_key, to_char(v_now at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))],
        p_version, null, p_priority) as s;
    update once_per
    set saga_id = v_last.saga_id, saga_key = v_last.saga_key, started_at = v_now, until = v_now + p_period
    where type = p_type and key = p_key;
    return query select v_last.saga_id, v_last.saga_key, true;
end $$;
comment on function start_once_per is 'Starts a saga at most once a period for each key: select * from saga.start_once_per(''digest'', ''{…}'', ''customer-7'', ''1 hour'')';

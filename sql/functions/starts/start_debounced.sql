-- Starts a saga once a burst of starts with its key is over: as long as no worker has taken it, a start
-- replaces its input and puts it off until p_quiet from now, but not beyond p_longest from the first.
-- Once it has begun, a start makes a new saga. Each saga's own key is <key>/<instant>.
create or replace function start_debounced(
    p_type text, p_input jsonb, p_key text, p_quiet interval, p_longest interval default null)
returns table (id uuid, key text, created boolean)
language plpgsql security definer set search_path from current as $$
#variable_conflict use_column
declare
    v_now timestamptz;
    v_due timestamptz;
    v_last debounce;
    v_problem text;
begin
    if p_key is null or length(p_key) not between 1 and 480 then
        raise exception 'a debounced start needs a key of 1 to 480 characters, not "%"', left(p_key, 80)
            using errcode = 'SG002';
    elsif p_quiet is null or p_quiet < '0' or p_longest < '0' then
        raise exception 'a debounced start needs times of 0 or more, not % and %', p_quiet, p_longest using errcode = 'SG002';
    end if;
    insert into debounce as w (type, key, first_at) values (p_type, p_key, '-infinity')
    on conflict (type, key) do update set key = excluded.key
    returning * into v_last;
    perform 1 from outbox o where o.id = v_last.saga_id for no key update;
    v_now := clock();
    if exists (select from outbox o where o.id = v_last.saga_id and o.status = 'CREATED' and o.worker is null) then
        v_problem := start_problem(p_type, p_input);
        if v_problem is not null then
            raise exception 'invalid input for saga type "%": %', p_type, v_problem using errcode = 'SG002';
        end if;
        update instance i set input = p_input where i.id = v_last.saga_id;
        v_due := least(v_now + p_quiet, v_last.first_at + p_longest);
        -- It comes to a gate anew once it is due.
        delete from ticket t where t.saga_id = v_last.saga_id and t.state = 'queued';
        update outbox o set due_at = v_due where o.id = v_last.saga_id and not exists (
            select from ticket t where t.saga_id = o.id);
        perform wake(p_type);
        return query select v_last.saga_id, v_last.saga_key, false;
        return;
    end if;
    select s.id, s.key into v_last.saga_id, v_last.saga_key
    from start_many(
        p_type, array[p_input], array[format('%s/%s', p_key, to_char(v_now at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))],
        null, v_now + least(p_quiet, p_longest)) as s;
    update debounce set saga_id = v_last.saga_id, saga_key = v_last.saga_key, first_at = v_now
    where type = p_type and key = p_key;
    return query select v_last.saga_id, v_last.saga_key, true;
end $$;
comment on function start_debounced is 'Starts a saga when a burst of starts is over, with the last input: select * from saga.start_debounced(''reindex'', ''{…}'', ''shop-7'', ''5 seconds'')';

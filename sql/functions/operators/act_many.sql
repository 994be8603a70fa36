-- Does an operator act to every saga that a filter finds, one row back for each; one that fails changes
-- nothing and stops no other. With p_dry_run each is tried and taken back, so that it says what would
-- happen.
--
--   p_act        retry | cancel | abort | skip | resolve | pause_saga | resume_saga
--   p_filter     type, step, error (its type), older_than (without a transition for so long), status, limit
--                (1000), after (a saga's id: only those behind it, in the order of ids, so that many can be
--                acted on by a thousand at a time); of retry, skip and resolve the status is SUSPENDED unless it says otherwise
--   p_arguments  resolve: {"status": "COMPLETED" | "FAILED"}; skip: {"result": …}; cancel: {"force": true}
--
-- outcome is the status that the act led to; problem says why it did not apply.
create or replace function act_many(
    p_act text, p_note text, p_filter jsonb default '{}', p_dry_run boolean default false,
    p_arguments jsonb default '{}')
returns table (saga_id uuid, key text, step text, error text, outcome text, problem text)
language plpgsql security definer set search_path from current as $$
#variable_conflict use_column
declare
    v_unknown text;
    v_status text := coalesce(p_filter ->> 'status',
        case when p_act in ('retry', 'skip', 'resolve') then 'SUSPENDED' end);
    v_older interval;
    v_limit integer;
    v_after uuid;
    v_found record;
    v_ids uuid[];
begin
    if p_act is null or p_act not in ('retry', 'cancel', 'abort', 'skip', 'resolve', 'pause_saga', 'resume_saga') then
        raise exception 'there is no act "%" for many sagas', p_act using errcode = 'SG002',
            hint = 'There are retry, cancel, abort, skip, resolve, pause_saga and resume_saga.';
    elsif coalesce(trim(p_note), '') = '' then
        raise exception 'an operator act needs a note that says why' using errcode = 'SG002';
    elsif jsonb_typeof(p_filter) is distinct from 'object' then
        raise exception 'the filter must be a JSON object, not %', coalesce(jsonb_typeof(p_filter), 'null')
            using errcode = 'SG002';
    end if;
    select string_agg(k, ', ') into v_unknown from jsonb_object_keys(p_filter) as k
    where k not in ('type', 'step', 'error', 'older_than', 'status', 'limit', 'after');
    if v_unknown is not null then
        raise exception 'the filter does not know: %', v_unknown
            using errcode = 'SG002', hint = 'It knows type, step, error, older_than, status, limit and after.';
    elsif v_status is null and p_act <> 'resume_saga' and not p_filter ?| array['type', 'step', 'error', 'older_than'] then
        raise exception 'a filter that says nothing would % every saga', replace(p_act, '_saga', '')
            using errcode = 'SG002', hint = 'Give a type, step, error, older_than or status.';
    end if;
    begin
        v_older := p_filter ->> 'older_than';
        v_limit := coalesce((p_filter ->> 'limit')::integer, 1000);
        v_after := p_filter ->> 'after';
    exception when data_exception then
        raise exception 'the filter cannot be read: %', sqlerrm using errcode = 'SG002',
            hint = 'older_than is an interval such as "1 hour", limit a number, after a saga''s id.';
    end;

    v_ids := array(
        -- In order before errors are looked up, so that they are looked up of no more than are wanted.
        select distinct on (c.id) c.id from (
            select coalesce(o.root, o.id) as id, o as line
            from outbox o
            where o.awaits is distinct from 'lines'
              and (v_after is null or coalesce(o.root, o.id) > v_after)
              and (v_status is null or o.status = v_status)
              and (not p_filter ? 'type' or o.type = p_filter ->> 'type')
              and (not p_filter ? 'step' or p_filter ->> 'step' in (o.step, line_name(o)))
              and (v_older is null or o.moved_at < clock() - v_older)
              and (p_act <> 'resume_saga' or exists (
                      select from pause p where p.saga_id = coalesce(o.root, o.id) and p.resumed_at is null))
            order by 1 offset 0) as c
        where not p_filter ? 'error' or line_error(c.line) ->> 'type' = p_filter ->> 'error'
        order by c.id limit v_limit);
    if p_act in ('pause_saga', 'resume_saga') then
        perform pauses_lock(p_note);
    end if;
    for v_found in
        select i.id, i.key, m.seq, l.name, l.error
        from instance i
        join outbox m on m.id = i.id
        cross join lateral (
            select line_name(o) as name, line_error(o) ->> 'type' as error from outbox o
            where (o.id = i.id or o.root = i.id) and o.awaits is distinct from 'lines'
              and (v_status is null or o.status = v_status)
              and (not p_filter ? 'step' or p_filter ->> 'step' in (o.step, line_name(o)))
              and (not p_filter ? 'error' or line_error(o) ->> 'type' = p_filter ->> 'error')
            order by o.id limit 1) as l
        where i.id = any (v_ids) order by i.id
    loop
        if not p_dry_run and v_ids is not null then
            -- All of them at once, in the one order in which rows are locked.
            perform lock_many(v_ids);
            v_ids := null;
        end if;
        saga_id := v_found.id;
        key := v_found.key;
        step := v_found.name;
        error := v_found.error;
        outcome := null;
        problem := null;
        begin
            outcome := case p_act
                when 'retry' then retry(v_found.id, p_note, v_found.seq)
                when 'abort' then abort(v_found.id, p_note, v_found.seq)
                when 'cancel' then cancel(
                    v_found.id, p_note, coalesce((p_arguments ->> 'force')::boolean, false), v_found.seq)
                when 'skip' then skip(
                    v_found.id, p_note, (p_arguments -> 'result')::json,
                    case when p_filter ? 'step' then v_found.name end, v_found.seq)
                when 'resolve' then resolve(v_found.id, p_arguments ->> 'status', p_note, v_found.seq)
                when 'pause_saga' then pause_saga(v_found.id, p_note, v_found.seq)
                when 'resume_saga' then resume_saga(v_found.id, p_note, v_found.seq)
            end;
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
comment on function act_many is 'An operator act on many sagas: select * from saga.act_many(''retry'', ''why'', ''{"type": "payment", "error": "ProviderDown"}'', true)';

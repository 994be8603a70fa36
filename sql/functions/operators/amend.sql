-- Operator act: corrects a saga's input, or the result of a step that is done, and runs what is suspended
-- of it again. What it was before stays in act.detail and in the history. A suspended command known to
-- have had no effect gets a new idempotency key, and so, with another input, does one that waits for its
-- next attempt; one in doubt keeps its key. Refused while anything of it runs, which has read the old
-- value. Returns the saga's status after it.
create or replace function amend(
    p_saga uuid, p_note text, p_input jsonb default null, p_step text default null, p_result json default null,
    p_seq integer default null)
returns text language plpgsql security definer set search_path from current as $$
declare
    v_row outbox := operator_lock(p_saga, p_seq, p_note);
    v_now timestamptz := clock();
    v_old jsonb;
    v_problem text;
    v_most integer;
    v_done transition;
    v_like outbox := v_row;
    v_line outbox;
begin
    if (p_input is null) = (p_result is null) or (p_result is null) <> (p_step is null) then
        raise exception 'an amendment is an input, or a step and its result' using errcode = 'SG002';
    elsif exists (select from outbox where (id = p_saga or root = p_saga) and worker is not null) then
        raise exception 'saga % is running now: %', p_saga, standing(p_saga)
            using errcode = 'SG005', hint = 'Pause it, or wait; nothing was changed.';
    end if;

    if p_input is not null then
        select i.input into strict v_old from instance i where i.id = p_saga for update;
        select max_input_bytes into strict v_most from setting;
        select case when octet_length(p_input::text) > v_most then format(
                    'it has %s bytes, the limit is %s (setting.max_input_bytes)', octet_length(p_input::text), v_most)
                else input_problem(p_input, d.input_fields, d.input_schema -> 'additionalProperties' = 'false') end
        into v_problem
        from definition d where d.type = v_row.type and d.version = v_row.version;
        if v_problem is not null then
            raise exception 'invalid input for saga %: %', p_saga, v_problem
                using errcode = 'SG002', hint = format('Its JSON schema: select input_schema(%L). Nothing was changed.', v_row.type);
        end if;
        perform record_act(v_row, 'amend', p_note, null, v_now,
            p_detail => jsonb_build_object('old_input', v_old, 'new_input', p_input));
        update instance set input = p_input where id = p_saga;
        perform count_amended(p_saga, v_old, p_input);
        update outbox set revision = revision + 1
        where (id = p_saga or root = p_saga) and kind <> 'reconcile' and status <> 'SUSPENDED' and attempt > 0
          and doubt_until is null and awaits is null;
    else
        perform check_result(p_result);
        select t.* into v_done from transition t
        where t.saga_id = p_saga and t.kind in ('action', 'reconcile') and t.outcome = 'done'
          and p_step = t.step || coalesce('/' || t.element, '')
        order by t.seq desc limit 1;
        if not found then
            raise exception 'step "%" of saga % is not done: the saga is %, %', p_step, p_saga, v_row.status, standing(p_saga)
                using errcode = 'SG005', hint = 'Done are: ' || coalesce((
                    select string_agg(distinct t.step || coalesce('/' || t.element, ''), ', ') from transition t
                    where t.saga_id = p_saga and t.kind in ('action', 'reconcile') and t.outcome = 'done'), 'none')
                    || '. Nothing was changed.';
        elsif exists (
            select from transition t
            where t.saga_id = p_saga and t.kind = 'compensation' and t.undoes = v_done.ordinal and t.outcome = 'done')
        then
            raise exception 'step "%" of saga % has been undone', p_step, p_saga
                using errcode = 'SG005', hint = 'Nothing was changed.';
        end if;
        select coalesce((
            select t.result from transition t
            where t.saga_id = p_saga and t.kind = 'act' and t.ordinal = v_done.ordinal and t.result is not null
            order by t.seq desc limit 1), v_done.result)::jsonb into v_old;
        v_like.step := v_done.step;
        v_like.ordinal := v_done.ordinal;
        v_like.element := v_done.element;
        v_like.elements := null;
        v_like.undoes := null;
        v_like.attempt := v_done.attempt;
        perform record_act(v_like, 'amend', p_note, null, v_now, p_result => p_result,
            p_detail => jsonb_build_object('step', p_step, 'old_result', v_old, 'new_result', p_result));
    end if;
    for v_line in
        select * from outbox where (id = p_saga or root = p_saga) and status = 'SUSPENDED' order by id
    loop
        perform line_again(v_line, v_now);
    end loop;
    perform show_move(p_saga);
    perform wake(v_row.type);
    return (select o.status from outbox o where o.id = p_saga);
end $$;
comment on function amend is 'Operator act: correct a saga''s input or a step''s result: select saga.amend(id, ''why'', ''{…}'')';

-- Operator act: takes a command as done with the given result, or an undo as undone, without running it:
-- one that is suspended, or waits for its next attempt, for a signal or for a time. Later steps and the
-- undo see the result as the step's. p_step names which ("step", of an element "step/place") where there
-- are several. Of a choice the result is the place of its alternative, from 0, or nothing for none.
-- Returns the saga's status after it.
create or replace function skip(
    p_saga uuid, p_note text, p_result json default null, p_step text default null, p_seq integer default null)
returns text language plpgsql security definer set search_path from current as $$
declare
    v_row outbox := operator_lock(p_saga, p_seq, p_note);
    v_now timestamptz := clock();
    v_lines outbox[];
    v_line outbox;
    v_step definition_step;
    v_live uuid;
begin
    perform check_result(p_result);
    v_lines := array(
        select o from outbox o
        where (o.id = p_saga or o.root = p_saga) and o.worker is null and o.awaits is distinct from 'lines'
          and (p_step is null or p_step in (o.step, line_name(o)))
          and (o.status = 'SUSPENDED' or o.attempt > 0 or o.awaits is not null or o.kind = 'reconcile')
        order by o.id);
    if p_step is null and exists (select from unnest(v_lines) as l where l.status = 'SUSPENDED') then
        v_lines := array(select l::outbox from unnest(v_lines) as l where l.status = 'SUSPENDED');
    end if;
    if cardinality(v_lines) = 0 then
        raise exception 'nothing of saga % can be skipped: it is %, %',
            p_saga || coalesce(' at step "' || p_step || '"', ''), v_row.status, standing(p_saga)
            using errcode = 'SG005', hint = 'What is suspended or waits can be skipped. Nothing was changed.';
    elsif cardinality(v_lines) > 1 then
        raise exception 'saga % has several commands that can be skipped: %', p_saga,
            (select string_agg(line_name(l), ', ' order by line_name(l)) from unnest(v_lines) as l)
            using errcode = 'SG002', hint = 'Name one of them as the step. Nothing was changed.';
    end if;
    v_line := v_lines[1];
    select s.* into strict v_step from definition_step s
    where s.type = v_line.type and s.version = v_line.version and s.name = v_line.step;
    select c.saga_id into v_live from child c join outbox o on o.id = c.saga_id
    where c.parent = p_saga and c.ordinal = coalesce(v_line.undoes, v_line.ordinal) limit 1;
    if found then
        raise exception 'step "%" of saga % waits for saga %, which lives', v_line.step, p_saga, v_live
            using errcode = 'SG005', hint = 'Skip, cancel or resolve what that one is at. Nothing was changed.';
    elsif v_line.kind <> 'compensation' and v_step.does = 'choice' and p_result is not null and not coalesce(
            p_result #>> '{}' ~ '^[0-9]{1,4}$' and (p_result #>> '{}')::integer < cardinality(v_step.heads), false) then
        raise exception 'the result of choice "%" is the place of an alternative, 0 to %, not %', v_line.step,
            cardinality(v_step.heads) - 1, p_result using errcode = 'SG002', hint = 'Nothing was changed.';
    elsif p_result is not null and v_step.fans_out and v_line.element is null and v_line.kind <> 'compensation' then
        raise exception 'step "%" runs for each of some elements: skipped as a whole it has no result', v_line.step
            using errcode = 'SG002', hint = 'Give no result. Nothing was changed.';
    end if;

    perform record_act(v_line, 'skip', p_note, null, v_now, p_detail => jsonb_build_object(
        'step', line_name(v_line), 'kind', v_line.kind, 'result', p_result));
    update outbox
    set status = case when kind = 'compensation' then 'COMPENSATING' else 'EXECUTING' end, reason = null,
        awaits = null, fence = fence + 1
    where id = v_line.id;
    perform show_move(p_saga);
    select * into strict v_line from outbox where id = v_line.id;
    perform line_succeeds(
        v_line, v_step, case when v_step.does = 'choice' and v_line.kind <> 'compensation' and p_result is not null
                             then 'chosen' else 'done' end,
        p_result, null, null, (select m.abort from outbox m where m.id = p_saga), v_now);
    perform show_move(p_saga);
    return (select coalesce(i.status, o.status::text)
            from instance i left join outbox o on o.id = i.id where i.id = p_saga);
end $$;
comment on function skip is 'Operator act: take a suspended step as done: select saga.skip(id, ''why'', ''{"ref": 7}'')';

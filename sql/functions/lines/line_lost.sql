-- A line's holder has died, or holds it past its deadline: its attempt is in doubt, but for a
-- transactional one. It runs again under the same key, is asked after first if it can be, or is done
-- with if the saga has failed meanwhile.
create or replace function line_lost(p_line outbox, p_error jsonb, p_now timestamptz) returns void
language plpgsql set search_path from current as $$
declare
    v_step definition_step;
    v_setting setting;
    v_saga uuid := coalesce((p_line).root, (p_line).id);
    v_kind text := (p_line).kind;
    v_worker uuid := (p_line).worker;
    v_known boolean;
    v_doubt timestamptz;
    v_due timestamptz := due_after_deaths((p_line).deaths + 1, p_now);
begin
    select s.* into strict v_step from definition_step s
    where s.type = (p_line).type and s.version = (p_line).version and s.name = (p_line).step;
    select * into strict v_setting from setting;
    v_known := case v_kind when 'action' then v_step.transactional or v_step.does not in ('action', 'saga')
        when 'compensation' then v_step.undo_transactional else true end;
    -- A sub-saga is started and undone by transitions, which nobody makes under the lost fence.
    v_doubt := case when v_known or v_step.does = 'saga' then (p_line).doubt_until
        else greatest((p_line).doubt_until, (p_line).deadline + v_setting.grace) end;
    p_line.fence := (p_line).fence + 1;
    perform record(p_line, v_kind, case when v_known then 'retry' else 'in_doubt' end, p_now,
        p_error => p_error, p_worker => v_worker, p_due_at => v_due);
    update outbox
    set worker = null, deadline = null, fence = fence + 1, attempt = attempt + 1, deaths = deaths + 1,
        due_at = v_due, doubt_until = v_doubt
    where id = (p_line).id;
    if (p_line).deaths + 1 >= v_setting.max_deaths then
        update outbox
        set status = 'SUSPENDED', reason = format(
            'step "%s" (%s): %s workers died while they ran it', (p_line).step, v_kind, (p_line).deaths + 1)
        where id = (p_line).id;
    elsif v_kind = 'action' and v_step.reconciles and v_doubt is not null then
        update outbox
        set kind = 'reconcile', attempt = 0, failures = 0, deaths = 0, due_at = v_doubt,
            action_failures = (p_line).failures
        where id = (p_line).id;
    elsif v_kind = 'action' and (select m.abort from outbox m where m.id = v_saga) then
        perform line_stopped((p_line).id, case when v_step.undo then v_doubt end, null, p_now);
    end if;
    perform show_move(v_saga);
    perform wake((p_line).type);
end $$;

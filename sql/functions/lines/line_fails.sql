-- An attempt has failed. It is made again as long as its policy allows; what is in doubt and can be
-- asked after is asked first. A failure for good suspends the saga where a person has to look, or is
-- passed over where the saga does not mind, or makes the saga fail.
create or replace function line_fails(
    p_line outbox, p_step definition_step, p_setting setting, p_outcome text, p_error jsonb, p_took real,
    p_no_effect boolean, p_give_up boolean, p_counted boolean, p_after interval, p_doubt_for interval,
    p_worker uuid, p_failing boolean, p_now timestamptz)
returns void language plpgsql set search_path from current as $$
declare
    v_saga uuid := coalesce((p_line).root, (p_line).id);
    v_kind text := (p_line).kind;
    v_failures integer := (p_line).failures + p_counted::integer;
    v_transactional boolean := case v_kind when 'action' then p_step.transactional
        when 'compensation' then p_step.undo_transactional else true end;
    v_doubt timestamptz := case
        when v_kind = 'reconcile' then (p_line).doubt_until
        when v_transactional then null
        when p_outcome = 'rejected' or (p_outcome = 'retry' and p_no_effect) then (p_line).doubt_until
        else greatest((p_line).doubt_until, p_now + coalesce(p_doubt_for, '0') + p_setting.grace) end;
    v_attempts integer := case v_kind when 'action' then p_step.attempts
        when 'compensation' then p_step.undo_attempts else p_step.ask_attempts end;
    v_ended boolean := p_outcome = 'rejected' or p_give_up or v_failures >= v_attempts
        or (v_kind = 'action' and p_failing);
    v_too_old boolean := v_kind = 'action' and v_doubt is not null and p_step.key_age < p_now - (
        select least(min(t.at - make_interval(secs => t.took)), p_now - make_interval(secs => p_took))
        from transition t where t.saga_id = v_saga and t.ordinal = (p_line).ordinal and t.kind = 'action');
    v_outcome text := case when p_outcome = 'in_doubt' and v_transactional and v_kind <> 'reconcile' then 'retry'
        else p_outcome end;
    v_reason text;
begin
    if v_kind = 'reconcile' and p_outcome = 'rejected' then
        -- It has had no effect: as if the attempt that it was asked after had been refused.
        perform record(p_line, v_kind, 'rejected', p_now, p_error => p_error, p_took => p_took, p_worker => p_worker);
        perform line_not_done(p_line, p_step, p_failing, p_worker, p_now);
        return;
    end if;
    if v_kind = 'action' and v_doubt is not null and p_step.reconciles then
        perform record(p_line, v_kind, v_outcome, p_now, p_error => p_error, p_took => p_took,
            p_worker => p_worker, p_due_at => v_doubt);
        update outbox
        set kind = 'reconcile', attempt = 0, failures = 0, deaths = 0, doubt_until = v_doubt, due_at = v_doubt,
            action_failures = case when v_ended then 1000000 else v_failures end,
            worker = null, deadline = null, fence = fence + 1
        where id = (p_line).id;
        return;
    end if;
    if not v_ended and not coalesce(v_too_old, false) then
        p_after := coalesce(p_after, retry_delay(
            case v_kind when 'action' then p_step.backoff when 'compensation' then p_step.undo_backoff else p_step.ask_backoff end,
            case v_kind when 'action' then p_step.backoff_cap when 'compensation' then p_step.undo_backoff_cap else p_step.ask_backoff_cap end,
            v_failures - 1));
        perform record(p_line, v_kind, v_outcome, p_now, p_error => p_error, p_took => p_took,
            p_worker => p_worker, p_due_at => p_now + p_after);
        update outbox
        set attempt = attempt + 1, failures = v_failures, doubt_until = v_doubt, due_at = p_now + p_after,
            revision = revision + (v_kind <> 'reconcile' and p_no_effect and v_doubt is null)::integer,
            awaits = null, worker = null, deadline = null, fence = fence + 1
        where id = (p_line).id;
        perform wake((p_line).type);
        return;
    end if;

    v_outcome := case
        when v_kind = 'compensation' then v_outcome
        when v_doubt is null then 'rejected' else 'in_doubt' end;
    v_reason := case
        when v_kind = 'reconcile' then format(
            'nobody knows whether step "%s" has had its effect: its reconcile could not say', p_step.name)
        when v_kind = 'compensation' then suspension_reason(v_kind, p_step.name, v_outcome, (p_line).attempt + 1)
        when v_too_old and not v_ended then format(
            'step "%s" is in doubt, and its idempotency key is older than %s', p_step.name, p_step.key_age)
        when p_failing or p_step.best_effort then null
        when p_step.after_pivot or (p_step.pivot and v_doubt is not null)
            then suspension_reason(v_kind, p_step.name, v_outcome, (p_line).attempt + 1) end;
    perform record(p_line, v_kind, v_outcome, p_now, p_error => p_error, p_took => p_took, p_worker => p_worker);
    if v_reason is not null then
        update outbox
        set status = 'SUSPENDED', reason = v_reason, attempt = attempt + 1, failures = v_failures,
            doubt_until = v_doubt, awaits = null,
            worker = null, deadline = null, fence = fence + 1
        where id = (p_line).id;
    else
        perform line_failed(p_line, p_step, v_doubt, p_failing, p_worker, p_now);
    end if;
end $$;

-- An action that was in doubt is known to have had no effect: it is tried again under the same key, or
-- has failed for good.
create or replace function line_not_done(
    p_line outbox, p_step definition_step, p_failing boolean, p_worker uuid, p_now timestamptz)
returns void language plpgsql set search_path from current as $$
declare
    v_saga uuid := coalesce((p_line).root, (p_line).id);
    v_attempts integer := (
        select count(*) from transition t
        where t.saga_id = v_saga and t.ordinal = (p_line).ordinal and t.kind = 'action');
begin
    if p_failing or (p_line).action_failures >= p_step.attempts then
        if p_step.after_pivot and not p_failing and not p_step.best_effort then
            update outbox
            set status = 'SUSPENDED', kind = 'action', attempt = v_attempts, action_failures = null,
                doubt_until = null, worker = null, deadline = null, fence = fence + 1,
                reason = format('step "%s" failed for good after the pivot; it has had no effect', p_step.name)
            where id = (p_line).id;
        else
            perform line_failed(p_line, p_step, null, p_failing, p_worker, p_now);
        end if;
        return;
    end if;
    update outbox
    set kind = 'action', failures = (p_line).action_failures, action_failures = null, deaths = 0, doubt_until = null,
        attempt = v_attempts,
        due_at = p_now + retry_delay(p_step.backoff, p_step.backoff_cap, greatest((p_line).action_failures - 1, 0)),
        worker = null, deadline = null, fence = fence + 1
    where id = (p_line).id;
    perform wake((p_line).type);
end $$;

-- An action has failed for good, and nobody has to look: the saga goes on if it does not mind, and
-- fails otherwise.
create or replace function line_failed(
    p_line outbox, p_step definition_step, p_doubt timestamptz, p_failing boolean, p_worker uuid, p_now timestamptz)
returns void language plpgsql set search_path from current as $$
begin
    if p_failing then
        perform line_stopped((p_line).id, case when p_step.undo then p_doubt end, p_worker, p_now);
    elsif p_step.best_effort then
        -- tail: the end has to say what failed.
        update outbox set tail = true where id = coalesce((p_line).root, (p_line).id);
        perform line_goes_on(
            (p_line).id, case when (p_line).element is null then p_step.next end, p_worker, p_now);
    else
        update outbox
        set doubt_until = case when p_step.undo and root is null and id = (p_line).id then p_doubt
                               when p_step.undo then greatest(doubt_until, p_doubt)
                               when id <> (p_line).id then doubt_until end
        where id = coalesce((p_line).root, (p_line).id);
        if (p_line).root is not null then
            delete from outbox where id = (p_line).id;
        else
            -- What became of it is recorded.
            update outbox set worker = null, deadline = null, kind = 'action', action_failures = null, awaits = null
                where id = (p_line).id;
        end if;
        perform saga_fails(
            coalesce((p_line).root, (p_line).id), case when (p_line).root is null then p_worker end, p_now);
    end if;
end $$;

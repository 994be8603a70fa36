-- A command is done, or needs none. A compensation is followed by the next one; an action by the next
-- step of its line, unless the saga has failed meanwhile.
create or replace function line_succeeds(
    p_line outbox, p_step definition_step, p_outcome text, p_result json, p_took real, p_worker uuid,
    p_failing boolean, p_now timestamptz)
returns void language plpgsql set search_path from current as $$
declare
    v_saga uuid := coalesce((p_line).root, (p_line).id);
    v_state text := case when p_outcome = 'done' and (p_line).kind <> 'compensation' then p_step.state end;
    v_next text := case when (p_line).element is null then p_step.next end;
begin
    if v_state is not null then
        update outbox set state = v_state where id = v_saga;
    end if;
    perform record(p_line, (p_line).kind, case p_outcome when 'chosen' then 'done' else p_outcome end, p_now,
        p_result => p_result, p_took => p_took, p_worker => p_worker, p_state => v_state);
    if (p_line).kind = 'compensation' then
        update outbox set doubt_until = null where id = v_saga;
        perform saga_undoes(v_saga, (p_line).undoes, p_worker, null, p_now);
    elsif p_failing then
        perform line_stopped((p_line).id, null, p_worker, p_now);
    else
        if p_outcome = 'chosen' then
            v_next := coalesce(p_step.heads[(p_result #>> '{}')::integer + 1], p_step.next);
        end if;
        perform line_goes_on((p_line).id, v_next, p_worker, p_now);
    end if;
end $$;

-- A line begins others side by side and waits for them: one for each branch of a parallel group, or,
-- of a step that runs for each of some elements, as many as may run at once.
create or replace function line_branches(
    p_line outbox, p_step definition_step, p_elements json, p_took real, p_worker uuid, p_now timestamptz)
returns void language plpgsql set search_path from current as $$
declare
    v_saga uuid := coalesce((p_line).root, (p_line).id);
    v_elements integer := case when p_step.fans_out then json_array_length(p_elements) end;
    v_lines integer := coalesce(least(v_elements, p_step.concurrency), cardinality(p_step.heads));
    v_last integer;
begin
    perform record(p_line, 'action', 'waiting', p_now, p_result => p_elements, p_took => p_took, p_worker => p_worker);
    update outbox
    set awaits = 'lines', lines = v_lines, elements = v_elements,
        element = case when v_elements is not null then v_lines else element end,
        attempt = attempt + 1, due_at = 'infinity', worker = null, deadline = null, fence = fence + 1
    where id = (p_line).id;
    if v_lines = 0 then
        perform line_joins((p_line).id, p_now);
        return;
    end if;
    update outbox set ordinal = ordinal + v_lines where id = v_saga returning ordinal - v_lines into v_last;
    insert into outbox (id, type, version, status, state, step, ordinal, due_at, moved_at, root, parent, element)
    select new_id(), (p_line).type, (p_line).version, 'EXECUTING', p_step.state,
        case when v_elements is null then p_step.heads[n] else p_step.name end, v_last + n, p_now, p_now,
        v_saga, (p_line).id, case when v_elements is not null then n - 1 end
    from generate_series(1, v_lines) as n;
    perform wake((p_line).type);
end $$;

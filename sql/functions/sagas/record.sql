-- Appends a transition of a line to its saga's history, under the saga's next seq; the saga's status
-- is what it was. Where the status changes by what follows, show_move() says so in the end.
create or replace function record(
    p_line outbox, p_kind text, p_outcome text, p_now timestamptz, p_result json default null,
    p_error jsonb default null, p_took real default null, p_worker uuid default null,
    p_due_at timestamptz default null, p_state text default null, p_attempt integer default null)
returns integer language plpgsql set search_path from current as $$
declare
    v_main outbox;
begin
    update outbox set seq = seq + 1, moved_at = p_now
    where id = coalesce((p_line).root, (p_line).id) returning * into v_main;
    if (p_line).root is not null then
        update outbox set moved_at = p_now where id = (p_line).id;
    end if;
    insert into transition (
        saga_id, seq, ordinal, undoes, kind, step, attempt, outcome, from_status, to_status, state,
        result, error, fence, worker, took, at, due_at, element, line)
    values (
        v_main.id, v_main.seq, (p_line).ordinal, (p_line).undoes, p_kind, (p_line).step,
        coalesce(p_attempt, (p_line).attempt + 1), p_outcome, v_main.status, v_main.status,
        coalesce(p_state, v_main.state), p_result, p_error, (p_line).fence, p_worker, p_took, p_now,
        p_due_at, (p_line).element, case when (p_line).root is not null then (p_line).id end);
    return v_main.seq;
end $$;

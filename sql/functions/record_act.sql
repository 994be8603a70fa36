-- Writes an operator act: its transition and its row in act.
create or replace function record_act(
    p_row outbox, p_act text, p_note text, p_to_status text, p_state text, p_error jsonb, p_at timestamptz)
returns void language sql volatile set search_path from current as $$
    insert into transition (
        saga_id, seq, ordinal, undoes, kind, step, attempt, outcome, from_status, to_status, state,
        error, fence, at)
    values ((p_row).id, (p_row).seq + 1, (p_row).ordinal, (p_row).undoes, 'act', (p_row).step,
        (p_row).attempt, 'act', (p_row).status, p_to_status, p_state, p_error, (p_row).fence, p_at);
    insert into act (saga_id, seq, act, actor, note, at)
    values ((p_row).id, (p_row).seq + 1, p_act, session_user, p_note, p_at);
$$;

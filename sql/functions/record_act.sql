-- Writes an operator act: its transition and its row in act. What it changes comes after it, and then
-- show_move().
create or replace function record_act(
    p_row outbox, p_act text, p_note text, p_error jsonb, p_at timestamptz,
    p_result json default null, p_detail jsonb default null, p_actor text default session_user)
returns void language plpgsql set search_path from current as $$
declare
    v_seq integer;
begin
    v_seq := record(p_row, 'act', 'act', p_at, p_result => p_result, p_error => p_error,
        p_attempt => (p_row).attempt);
    insert into act (saga_id, seq, act, actor, note, at, detail)
    values (coalesce((p_row).root, (p_row).id), v_seq, p_act, p_actor, p_note, p_at, p_detail);
end $$;

-- Writes an operator act: its transition and its row in act. What it changes comes after it, and then
-- show_move(). Of a suspended saga the act keeps what was suspended, and why: see past_resolutions().
create or replace function record_act(
    p_row outbox, p_act text, p_note text, p_error jsonb, p_at timestamptz,
    p_result json default null, p_detail jsonb default null, p_actor text default actor())
returns void language plpgsql set search_path from current as $$
declare
    v_seq integer;
    v_saga uuid := coalesce((p_row).root, (p_row).id);
    v_suspended outbox;
    v_error jsonb;
begin
    select * into v_suspended from outbox o
    where (o.id = v_saga or o.root = v_saga) and o.status = 'SUSPENDED'
    order by o.id <> (p_row).id, o.moved_at limit 1;
    if v_suspended.id is not null then
        v_error := line_error(v_suspended);
    end if;
    v_seq := record(p_row, 'act', 'act', p_at, p_result => p_result, p_error => p_error,
        p_attempt => (p_row).attempt);
    insert into act (saga_id, seq, act, actor, note, at, detail, step, reason, error)
    values (v_saga, v_seq, p_act, p_actor, p_note, p_at, p_detail,
        v_suspended.step, v_suspended.reason, v_error);
end $$;

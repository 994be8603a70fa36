-- Puts the main line of a saga, of which nothing else runs any more, on its next compensation: that of
-- the last command before p_before that was done or is in doubt. Without one, the saga has failed.
create or replace function saga_undoes(
    p_saga uuid, p_before integer, p_worker uuid, p_error jsonb, p_now timestamptz)
returns void language plpgsql set search_path from current as $$
declare
    v_main outbox;
    v_target record;
    v_step definition_step;
    v_due timestamptz;
begin
    select * into strict v_main from outbox where id = p_saga;
    select * into v_target from undo_target(p_saga, v_main.type, v_main.version, p_before);
    if not found then
        perform saga_ends(p_saga, 'FAILED', p_error, p_now);
        return;
    end if;
    select s.* into strict v_step from definition_step s
    where s.type = v_main.type and s.version = v_main.version and s.name = v_target.step;
    if p_worker is not null and (select s.pauses from setting s) and is_paused(p_saga, v_main.type) then
        p_worker := null;
    end if;
    v_due := greatest(v_main.doubt_until, p_now);
    update outbox o
    set status = 'COMPENSATING', state = 'COMPENSATING', kind = 'compensation', step = v_target.step,
        undoes = v_target.ordinal, element = v_target.element, ordinal = o.ordinal + 1, attempt = 0,
        failures = 0, deaths = 0, revision = 0, doubt_until = null, awaits = null, action_failures = null,
        lines = null, elements = null, abort = false, reason = null, moved_at = p_now, fence = o.fence + 1,
        due_at = case when p_worker is not null and v_due = p_now then o.due_at else v_due end,
        worker = case when v_due = p_now then p_worker end,
        deadline = case when v_due = p_now and p_worker is not null
            then p_now + (select s.hold from setting s) + v_step.undo_timeout end
    where o.id = p_saga;
    if p_worker is null or v_due > p_now then
        perform wake(v_main.type);
    end if;
end $$;

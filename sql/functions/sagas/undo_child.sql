-- Has a sub-saga undone because its parent is: one that lives is aborted, one that has completed lives
-- again to be undone, its pivot too.
create or replace function undo_child(p_saga uuid, p_now timestamptz) returns void
language plpgsql set search_path from current as $$
declare
    v_instance instance;
    v_main outbox;
    v_last transition;
    v_error jsonb := '{"type": "ParentUndone", "message": "the saga that started this one is undone"}';
begin
    select * into v_instance from instance where id = p_saga for update;
    if v_instance.status = 'FAILED' or not found then
        return;
    elsif v_instance.status is null then
        select * into strict v_main from outbox where id = p_saga;
        if v_main.status <> 'COMPENSATING' and v_main.kind <> 'compensation' then
            perform record_act(v_main, 'abort', v_error ->> 'message', v_error, p_now, p_actor => 'engine');
            perform abort_saga(v_main, v_error, p_now);
            perform show_move(p_saga);
        end if;
        return;
    end if;
    select t.* into strict v_last from transition t where t.saga_id = p_saga order by t.seq desc limit 1;
    update instance set status = null, state = null, ended_at = null, output = null where id = p_saga;
    insert into outbox (id, type, version, status, state, step, kind, undoes, seq, ordinal, fence, due_at, moved_at, tail)
    values (p_saga, v_instance.type, v_instance.version, 'COMPENSATING', 'COMPENSATING', v_last.step,
        'compensation', 0, v_last.seq + 1, v_last.ordinal, v_last.fence + 1, p_now, p_now, true);
    insert into transition (
        saga_id, seq, ordinal, kind, step, attempt, outcome, from_status, to_status, state, error, fence, at)
    values (p_saga, v_last.seq + 1, v_last.ordinal, 'act', v_last.step, 0, 'act', 'COMPLETED', 'COMPENSATING',
        'COMPENSATING', v_error, v_last.fence, p_now);
    -- One that was closed as completed amidst its undo goes on with that.
    perform saga_undoes(p_saga, coalesce((
            select min(t.undoes) from transition t
            where t.saga_id = p_saga and t.kind = 'compensation' and t.outcome = 'done'),
        v_last.ordinal + 1), null, v_error, p_now);
    perform show_move(p_saga);
end $$;

-- Operator act: runs a suspended saga's failed command again, now and with its whole policy; or a
-- command that waits for its next attempt, without the wait. A command whose failure is known to have
-- had no effect gets a new idempotency key, for a provider may have stored the refusal under the old
-- one; one in doubt keeps its key. An undo that waits for its first attempt goes on waiting: until
-- then the effect that it undoes may still land.
create or replace function retry(p_saga uuid, p_note text, p_seq integer default null) returns text
language plpgsql security definer set search_path from current as $$
declare
    v_row outbox := operator_lock(p_saga, p_seq, p_note);
    v_to text := case v_row.kind when 'action' then 'EXECUTING' else 'COMPENSATING' end;
    v_now timestamptz := clock();
begin
    if v_row.worker is not null then
        raise exception 'saga % is running step "%" on worker % now', p_saga, v_row.step, v_row.worker
            using errcode = 'SG005', hint = 'Nothing was changed.';
    elsif v_row.status = 'CREATED' then
        raise exception 'saga % has not begun: no worker has taken it', p_saga
            using errcode = 'SG005', hint = 'Start a worker that runs this type; nothing was changed.';
    end if;
    perform record_act(v_row, 'retry', p_note, v_to, v_row.state, null, v_now);
    update outbox
    set status = v_to, seq = seq + 1, fence = fence + 1, failures = 0, deaths = 0, reason = null,
        due_at = case when kind = 'compensation' and attempt = 0 then greatest(due_at, v_now) else v_now end,
        moved_at = v_now,
        revision = revision + (v_row.status = 'SUSPENDED' and v_row.doubt_until is null)::integer
    where id = p_saga;
    perform wake(v_row.type);
    return v_to;
end $$;
comment on function retry is 'Operator act: run a suspended saga''s failed step again now: select saga.retry(id, ''why'')';

-- Extends a worker's lease. No row comes back when the worker was reaped: death is final, it has to
-- drop everything and register anew. Else: how long it may hold a command that it has not begun, and
-- how large a result may be, as they are set now.
create or replace function heartbeat(p_worker uuid)
returns table (hold interval, max_result_bytes integer)
language plpgsql security definer set search_path from current as $$
#variable_conflict use_column
declare
    v_now timestamptz := clock();
begin
    update worker set heartbeat_at = v_now, expires_at = v_now + lease where id = p_worker;
    if found then
        return query select s.hold, s.max_result_bytes from setting s;
    end if;
end $$;

-- As lock_sagas(), for an act on many sagas. An advance locks what is done and what is not the one after the
-- other, so it may wait for one of them while it holds up another: then all are let go, and locked anew.
create or replace function lock_many(p_sagas uuid[]) returns void
language plpgsql set search_path from current as $$
begin
    for v_left in reverse 4 .. 0 loop
        begin
            perform lock_sagas(p_sagas);
            return;
        exception when deadlock_detected then
            if v_left = 0 then
                raise;
            end if;
        end;
    end loop;
end $$;

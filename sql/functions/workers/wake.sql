-- Wakes idle workers that run a type, at the caller's commit. A busy system notifies nobody, because
-- NOTIFY takes a lock on the whole cluster at commit. Callers hold doze_key() shared, so no worker
-- falls asleep between this look and their commit. Under a fixed snapshot the look may be stale, so
-- there the notification is sent unasked.
create or replace function wake(p_type text) returns void
language plpgsql set search_path from current as $$
begin
    perform pg_advisory_xact_lock_shared(doze_key());
    if current_setting('transaction_isolation') <> 'read committed' or exists (
        select from worker where idle and expires_at > clock() and p_type = any (types))
    then
        perform pg_notify(current_schema() || '_wake', '');
    end if;
end $$;

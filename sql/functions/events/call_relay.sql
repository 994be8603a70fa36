-- Wakes the relays of all workers, at the caller's commit.
create or replace function call_relay() returns void
language sql set search_path from current as $$ select pg_notify(current_schema() || '_relay', '') $$;

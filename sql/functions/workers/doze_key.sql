-- The advisory lock between those who start sagas (shared) and workers that fall asleep (exclusive).
create or replace function doze_key() returns bigint
language sql stable as $$ select hashtextextended('outbox doze ' || current_schema(), 0) $$;

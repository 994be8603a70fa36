-- The only clock of the engine. A test that owns the schema replaces this function to move time;
-- a producer cannot. Without a SET clause, so that it is inlined.
create or replace function clock() returns timestamptz
language sql volatile parallel safe as $$ select pg_catalog.clock_timestamp() $$;

-- The advisory lock of those who turn events into deliveries: one after the other, so that the events
-- of a saga get on their way in their order; and of those who end a subscription.
create or replace function route_key() returns bigint
language sql stable set search_path from current as $$ select hashtextextended('outbox route ' || current_schema(), 0) $$;

-- Whether events are to be sent to any URL.
create or replace function has_webhooks() returns boolean
language sql stable security definer set search_path from current as $$
    select exists (select from subscription s where s.url is not null and s.disabled_at is null)
$$;

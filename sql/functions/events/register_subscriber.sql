-- Makes a function of an app known that is to be told of events; a worker does, when it starts.
create or replace function register_subscriber(
    p_name text, p_patterns text[], p_timeout interval, p_attempts integer, p_backoff interval,
    p_backoff_cap interval)
returns void language plpgsql security definer set search_path from current as $$
begin
    perform check_patterns(p_patterns);
    if exists (select from subscription s where s.name = p_name and s.url is not null) then
        raise exception 'subscription "%" is a webhook, not a function of an app', p_name using errcode = 'SG008',
            hint = 'Give the subscriber another name, or end the webhook: bin/saga unsubscribe.';
    end if;
    insert into subscription as s (name, patterns, timeout, attempts, backoff, backoff_cap, actor, created_at)
    values (p_name, p_patterns, p_timeout, p_attempts, p_backoff, p_backoff_cap, session_user, clock())
    on conflict (name) do update
    set patterns = excluded.patterns, timeout = excluded.timeout, attempts = excluded.attempts,
        backoff = excluded.backoff, backoff_cap = excluded.backoff_cap
    where (s.patterns, s.timeout, s.attempts, s.backoff, s.backoff_cap) is distinct from (
        excluded.patterns, excluded.timeout, excluded.attempts, excluded.backoff, excluded.backoff_cap);
end $$;

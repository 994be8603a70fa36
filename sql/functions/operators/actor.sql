-- Who acts: the login and, before it, the person for whom the login says that it acts, as the dashboard does
-- for its users: select set_config('outbox.actor', 'ann', true). The login stands there in any case, since
-- anybody may call himself as he likes.
create or replace function actor() returns text language sql stable set search_path from current as $$
    select coalesce(nullif(left(current_setting('outbox.actor', true), 200), '') || ' via ', '') || session_user
$$;
comment on function actor is 'Who acts, as acts, signals and pauses keep it: the login, and the person for whom it acts.';

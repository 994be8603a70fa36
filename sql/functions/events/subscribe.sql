-- Sends events whose names match one of the patterns to a URL from now on, signed after the Standard
-- Webhooks specification; answers the secret to verify them with (whsec_…), made here unless one is
-- given. For a name that exists: changes it, and enables it again; another secret than before is used
-- beside the one before it, until it changes once more. A URL mailto:somebody@host sends mails instead,
-- which are not signed: null.
create or replace function subscribe(
    p_name text, p_patterns text[], p_url text, p_secret text default null,
    p_timeout interval default '10 seconds', p_attempts integer default 12,
    p_backoff interval default '1 second', p_backoff_cap interval default '1 hour',
    p_note text default null)
returns text language plpgsql security definer set search_path from current as $$
declare
    v_now timestamptz := clock();
    v_old subscription;
    v_new subscription;
    v_secrets text[];
begin
    perform check_patterns(p_patterns);
    if coalesce(p_name, '') !~ '^[A-Za-z][A-Za-z0-9_.-]{0,99}$' then
        raise exception '"%" is no name of a subscription', p_name using errcode = 'SG002',
            hint = 'A letter, then letters, digits, dots, dashes and underscores; 100 at most.';
    end if;
    if coalesce(p_url, '') !~ '^(https?://[^/@\s]+(/\S*)?|mailto:[^@\s?,<>"]+@[^@\s?,<>"]+)$' then
        raise exception 'the URL of subscription "%" is none that can be posted to', p_name using errcode = 'SG002',
            hint = 'https://host/path, without a user name or a password in it; or mailto:somebody@host.';
    end if;
    if p_secret is not null and p_url like 'mailto:%' then
        raise exception 'mails are not signed, so subscription "%" has no secret', p_name using errcode = 'SG002',
            hint = 'Leave the secret out.';
    end if;
    if p_secret is not null and p_secret !~ '^whsec_[A-Za-z0-9+/]{32,88}={0,2}$' then
        raise exception 'the secret of subscription "%" is not of the form whsec_<base64 of 24 to 64 bytes>', p_name
            using errcode = 'SG002', hint = 'Leave it out, then one is made.';
    end if;
    perform pg_advisory_xact_lock(route_key());
    select * into v_old from subscription s where s.name = p_name for update;
    if found and v_old.url is null then
        raise exception 'subscription "%" is a function of an app, not a webhook', p_name using errcode = 'SG005',
            hint = 'Choose another name; nothing was changed.';
    end if;
    v_secrets := coalesce(v_old.secrets, '{}');
    if p_url like 'mailto:%' then
        v_secrets := '{}';
    elsif p_secret is null and cardinality(v_secrets) = 0 then
        v_secrets := array['whsec_' || encode(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()), 'base64')];
    elsif p_secret is not null and p_secret is distinct from v_secrets[1] then
        v_secrets := (p_secret || v_secrets)[1:2];
    end if;
    insert into subscription as s (
        name, patterns, url, secrets, timeout, attempts, backoff, backoff_cap, actor, created_at)
    values (
        p_name, p_patterns, p_url, v_secrets, p_timeout, p_attempts, p_backoff, p_backoff_cap, actor(), v_now)
    on conflict (name) do update
    set patterns = excluded.patterns, url = excluded.url, secrets = excluded.secrets, timeout = excluded.timeout,
        attempts = excluded.attempts, backoff = excluded.backoff, backoff_cap = excluded.backoff_cap,
        actor = excluded.actor, disabled_at = null, disabled_why = null
    returning * into v_new;
    perform note_change(
        'subscription', 'set', null, p_name, p_note, subscription_rule(v_old), subscription_rule(v_new));
    perform call_relay();
    return v_secrets[1];
end $$;
comment on function subscribe is 'Sends events to a URL: select saga.subscribe(''shop'', ''{payment.*}'', ''https://…''); answers the secret.';

-- A subscription as rule_change keeps it; null: there is none. Of a URL what stands before a question mark:
-- behind it there may be a secret; of the secret itself enough to tell
-- that it is another one.
create or replace function subscription_rule(p_subscription subscription) returns jsonb language sql immutable as $$
    select jsonb_strip_nulls(jsonb_build_object(
        'patterns', (p_subscription).patterns, 'url', split_part((p_subscription).url, '?', 1),
        'timeout', extract(epoch from (p_subscription).timeout)::float8, 'attempts', (p_subscription).attempts,
        'fingerprint', left(encode(sha256(convert_to((p_subscription).secrets[1], 'utf8')), 'hex'), 8),
        'disabled', nullif((p_subscription).disabled_at is not null, false)))
    where (p_subscription).name is not null
$$;

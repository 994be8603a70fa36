-- A limit as rule_change keeps it: what is not so is left out, the period is in seconds; null: there is none.
create or replace function limit_rule(p_limit saga_limit) returns jsonb language sql immutable as $$
    select jsonb_strip_nulls(jsonb_build_object(
        'amount', (p_limit).amount, 'per', extract(epoch from (p_limit).per)::float8, 'key', (p_limit).path,
        'counts_waiting', nullif((p_limit).counts_waiting, false)))
    where (p_limit).amount is not null
$$;

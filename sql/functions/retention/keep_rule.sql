-- A retention as rule_change keeps it, in days; null: there is none of its own.
create or replace function keep_rule(p_keep interval) returns jsonb language sql immutable as $$
    select jsonb_build_object('days', extract(epoch from p_keep)::float8 / 86400) where p_keep is not null
$$;

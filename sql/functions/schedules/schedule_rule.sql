-- A schedule as rule_change keeps it; null: there is none.
create or replace function schedule_rule(p_schedule schedule) returns jsonb language sql immutable as $$
    select jsonb_strip_nulls(jsonb_build_object(
        'type', (p_schedule).type, 'cron', (p_schedule).cron, 'zone', (p_schedule).zone,
        'catch_up', (p_schedule).catch_up, 'paused', nullif((p_schedule).paused, false)))
        || jsonb_build_object('input', (p_schedule).input)
    where (p_schedule).name is not null
$$;

-- Who changed what holds for many sagas, when, why, and what it was before.
create table rule_change (
    number bigint      generated always as identity primary key,
    at     timestamptz not null,
    rule   text        not null,
    act    text        not null,
    type   text,
    name   text,
    actor  text        not null,
    note   text,
    before jsonb,
    after  jsonb,
    constraint rule_change_is_of_a_rule check (rule in ('limit', 'schedule', 'retention', 'subscription')),
    constraint rule_change_act_is_known check (act in ('set', 'drop', 'pause', 'resume', 'declare')),
    constraint rule_change_changes check (before is distinct from after)
);
comment on table rule_change is 'Every change of a limit, a schedule, a retention or a subscription.';

-- These take a note now; as they were they would stand beside what they are.
do $$
declare
    v_function regprocedure;
begin
    for v_function in
        select to_regprocedure(f) from unnest(array[
            'put_limit(text, text, integer, interval, text, boolean, integer)',
            'set_limit(text, text, integer, text, interval, boolean)',
            'drop_limit(text, text)',
            'set_schedule(text, text, text, text, jsonb, text)',
            'drop_schedule(text)',
            'pause_schedule(text)',
            'resume_schedule(text)',
            'set_retention(text, interval)',
            'drop_retention(text)',
            'subscribe(text, text[], text, text, interval, integer, interval, interval)',
            'unsubscribe(text)']) as f
        where to_regprocedure(f) is not null
    loop
        execute format('drop function %s', v_function);
    end loop;
end $$;

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
drop function if exists put_limit(text, text, integer, interval, text, boolean, integer);
drop function if exists set_limit(text, text, integer, text, interval, boolean);
drop function if exists drop_limit(text, text);
drop function if exists set_schedule(text, text, text, text, jsonb, text);
drop function if exists drop_schedule(text);
drop function if exists pause_schedule(text);
drop function if exists resume_schedule(text);
drop function if exists set_retention(text, interval);
drop function if exists drop_retention(text);
drop function if exists subscribe(text, text[], text, text, interval, integer, interval, interval);
drop function if exists unsubscribe(text);

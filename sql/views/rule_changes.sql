create view rule_changes as
select number, at, rule, act, type, name, actor, note, before, after from rule_change;
comment on view rule_changes is 'Who changed a limit, a schedule, a retention or a subscription, why, and what it was before.';

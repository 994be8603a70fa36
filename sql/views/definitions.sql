create view definitions as
select d.type, d.version, d.registered_at, d.deadline, d.steps, d.input_schema from definition d;
comment on view definitions is 'Every registered version of a saga type, with its steps and the JSON schema of its input.';

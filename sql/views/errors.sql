create view errors as
select type, step, kind, error, message, count, sagas, first_seen, last_seen, example from errors_since('24 hours');
comment on view errors is 'Of the last 24 hours, by type, step and message: the errors that attempts met, the most frequent first. Other windows: errors_since().';
comment on column errors.message is 'The first 200 characters.';
comment on column errors.sagas is 'How many different sagas met it.';
comment on column errors.example is 'The saga that met it last.';

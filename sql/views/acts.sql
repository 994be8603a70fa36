create view acts as
select a.saga_id, a.seq, a.at, a.act, a.actor, a.note, a.detail, a.step, a.reason, a.error from act a;
comment on view acts is 'Every operator act: who, when, why; step, reason and error are of what was suspended then.';

create view latency as
select type, step, kind, attempts as count, p50, p95, p99, errors, retries from latency_since('1 hour');
comment on view latency is 'Of the last hour, by type and step: how many attempts there were and how long they took, in seconds. Other windows: latency_since().';
comment on column latency.kind is 'action, compensation or reconcile.';
comment on column latency.count is 'Attempts that ended.';
comment on column latency.p50 is 'Seconds.';
comment on column latency.p95 is 'Seconds.';
comment on column latency.p99 is 'Seconds.';
comment on column latency.errors is 'Attempts that met an error.';
comment on column latency.retries is 'Errors after which it was tried again.';

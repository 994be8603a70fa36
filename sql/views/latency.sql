create view latency as
select type, step, kind, attempts as count, p50, p95, p99, errors, retries from latency_since('1 hour');
comment on view latency is 'Of the last hour, by type and step: how many attempts there were and how long they took, in seconds. Other windows: latency_since().';

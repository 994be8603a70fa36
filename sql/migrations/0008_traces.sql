-- The W3C trace context (https://www.w3.org/TR/trace-context/) of whoever started a saga, where there was one.
create table trace_context (
    saga_id     uuid primary key,
    traceparent text not null,
    tracestate  text,
    constraint trace_context_parent_is_one check (traceparent ~ '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'),
    constraint trace_context_state_is_short check (length(tracestate) <= 512)
);
comment on table trace_context is 'In which trace a saga was started, where its caller had one.';

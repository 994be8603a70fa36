-- Keeps the trace in which a saga was started, in the transaction that starts it. p_created: whether this
-- start made the saga; if not, its trace is that of the start which did.
create or replace function keep_trace(
    p_saga uuid, p_traceparent text, p_tracestate text default null, p_created boolean default true)
returns void language plpgsql security definer set search_path from current as $$
begin
    if p_traceparent is null or p_traceparent !~ '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'
        or length(p_tracestate) > 512
    then
        raise exception 'the trace context is "%" with the state "%", but W3C''s is 00-<32 hexadecimal digits>-<16>-<2>, with a state of at most 512 characters',
            left(p_traceparent, 80), left(p_tracestate, 80) using errcode = 'SG002';
    end if;
    if p_created then
        insert into trace_context (saga_id, traceparent, tracestate)
        select i.id, p_traceparent, p_tracestate from instance i where i.id = p_saga
        on conflict do nothing;
    end if;
end $$;
comment on function keep_trace is 'Keeps the caller''s W3C trace context with a saga: select saga.keep_trace(saga.start(…), ''00-…-…-01'')';

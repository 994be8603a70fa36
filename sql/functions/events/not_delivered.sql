-- The event that was taken under this fence could not be delivered: it is tried again later, after
-- p_after if the receiver asked for that, or becomes a dead letter, and the saga's next event is
-- delivered. p_gone: the receiver wants no more; the subscription is disabled and all that waits for
-- it becomes dead letters. p_counted: false when the attempt was given up by the worker, which stops.
-- Answers 'retry', 'dead', 'gone', or 'fenced': somebody else has taken it.
create or replace function not_delivered(
    p_subscription text, p_saga uuid, p_event bigint, p_fence integer, p_error text,
    p_after interval default null, p_gone boolean default false, p_counted boolean default true)
returns text language plpgsql security definer set search_path from current set jit to off as $$
declare
    v_now timestamptz := clock();
    v_subscription subscription;
    v_attempts integer;
begin
    if p_gone then
        perform pg_advisory_xact_lock(route_key());
    end if;
    perform 1 from lane l
    where l.subscription = p_subscription and l.saga_id = p_saga and l.fence = p_fence and l.busy_until is not null
    for update;
    if not found then
        return 'fenced';
    end if;
    select * into strict v_subscription from subscription s where s.name = p_subscription;
    update delivery d set attempts = d.attempts + p_counted::integer, error = left(p_error, 2000), at = v_now
    where d.saga_id = p_saga and d.subscription = p_subscription and d.event = p_event
    returning d.attempts into strict v_attempts;
    if p_gone then
        update subscription s set disabled_at = v_now, disabled_why = left(p_error, 2000)
        where s.name = p_subscription;
        update delivery d set status = 'dead', error = coalesce(d.error, left(p_error, 2000)), at = v_now
        where d.subscription = p_subscription and d.status = 'waiting';
        update lane l set busy_until = null, due_at = v_now
        where l.subscription = p_subscription and l.saga_id = p_saga;
        return 'gone';
    end if;
    if p_counted and v_attempts >= v_subscription.attempts then
        update delivery d set status = 'dead'
        where d.saga_id = p_saga and d.subscription = p_subscription and d.event = p_event;
        update lane l set busy_until = null, due_at = v_now
        where l.subscription = p_subscription and l.saga_id = p_saga;
        return 'dead';
    end if;
    update lane l
    set busy_until = null, due_at = v_now + case when p_counted then greatest(
        -- least() passes over a null: without the case, who asks for nothing would wait for the cap.
        case when p_after is not null then least(p_after, v_subscription.backoff_cap) end,
        retry_delay(v_subscription.backoff, v_subscription.backoff_cap, v_attempts - 1)) else '0' end
    where l.subscription = p_subscription and l.saga_id = p_saga;
    return 'retry';
end $$;

-- Delivers an event to a subscription once more: a dead letter, or one that its receiver has lost. It
-- does not wait for the saga's later events, which have gone ahead of it.
create or replace function redeliver(p_subscription text, p_event bigint, p_note text) returns void
language plpgsql security definer set search_path from current as $$
declare
    v_now timestamptz := clock();
    v_delivery delivery;
    v_subscription subscription;
begin
    if coalesce(trim(p_note), '') = '' then
        raise exception 'an operator act needs a note that says why' using errcode = 'SG002';
    end if;
    perform pg_advisory_xact_lock(route_key());
    select * into v_subscription from subscription s where s.name = p_subscription;
    if not found then
        raise exception 'there is no subscription "%"', p_subscription using errcode = 'SG004';
    end if;
    select d.* into v_delivery from event e
    join delivery d on d.saga_id = e.saga_id and d.subscription = p_subscription and d.event = e.number
    where e.number = p_event;
    if not found then
        raise exception 'event % was never on its way to subscription "%"', p_event, p_subscription
            using errcode = 'SG004', hint = 'bin/saga events lists them.';
    end if;
    if v_subscription.disabled_at is not null then
        raise exception 'subscription "%" is disabled since %: %', p_subscription, v_subscription.disabled_at,
            v_subscription.disabled_why
            using errcode = 'SG005', hint = 'Subscribe it again first, which enables it; nothing was changed.';
    end if;
    -- The lane before the delivery, as all who deliver do.
    insert into lane as l (subscription, saga_id, called, due_at)
    values (p_subscription, v_delivery.saga_id, 0, v_now)
    on conflict (subscription, saga_id) do update set called = l.called;
    update delivery d set status = 'waiting', attempts = 0
    where d.saga_id = v_delivery.saga_id and d.subscription = p_subscription and d.event = p_event
      and d.status <> 'waiting';
    if not found then
        raise exception 'event % still waits to be delivered to subscription "%" (% attempts so far)', p_event,
            p_subscription, v_delivery.attempts
            using errcode = 'SG005', hint = 'It is tried again by itself; nothing was changed.';
    end if;
    insert into redelivery (event, subscription, saga_id, actor, note, at)
    values (p_event, p_subscription, v_delivery.saga_id, actor(), p_note, v_now);
    perform call_relay();
end $$;
comment on function redeliver is 'Delivers an event once more: select saga.redeliver(''shop'', 4711, ''why'')';

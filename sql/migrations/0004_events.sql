-- What attempts remember of their sub-effects, and what sagas tell the world.

-- The result of a sub-effect, kept across the attempts of one command.
create table once_result (
    saga_id uuid         not null,
    command uuid         not null,
    ordinal integer      not null,
    kind    command_kind not null,
    name    text         not null,
    result  json         not null,
    at      timestamptz  not null,
    primary key (saga_id, command, ordinal, kind, name),
    constraint once_name_has_1_to_200_characters check (length(name) between 1 and 200),
    constraint once_result_has_no_nul check (
        position('\u0000' in result::text) = 0 or result::jsonb is not null)
);
comment on table once_result is 'What cmd.once() remembers: sub-effects that a command need not repeat.';
comment on column once_result.command is 'The line of the saga whose command it was.';

-- Written in the commit of the transition that it tells of. number: the order in which a saga's events
-- are delivered.
create table event (
    number  bigint      generated always as identity primary key,
    saga_id uuid        not null,
    seq     integer     not null,
    ordinal integer,
    type    text        not null,
    version integer     not null,
    step    text        not null,
    name    text        not null,
    payload json        not null,
    at      timestamptz not null,
    relayed boolean     not null default false,
    constraint event_name_is_dotted check (
        length(name) <= 100 and name ~ '^[A-Za-z][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*$'),
    constraint event_payload_has_no_nul check (
        position('\u0000' in payload::text) = 0 or payload::jsonb is not null)
);
create index event_of_saga on event (saga_id, number);
create index event_unrelayed on event (number) where not relayed;
comment on table event is 'What sagas emitted, and alerts; from psql read the view events.';
comment on column event.relayed is 'It has become deliveries, one for each subscription that wants it.';

-- url: of a webhook; null: a function of the workers whose app has it. secrets: to sign with, the
-- newest first; plain, since whoever signs needs them, and shown by no view.
create table subscription (
    name           text        primary key,
    patterns       text[]      not null,
    url            text,
    secrets        text[],
    timeout        interval    not null default '10 seconds',
    attempts       integer     not null default 12,
    backoff        interval    not null default '1 second',
    backoff_cap    interval    not null default '1 hour',
    actor          text        not null,
    created_at     timestamptz not null,
    disabled_at    timestamptz,
    disabled_why   text,
    constraint subscription_name_is_a_name check (name ~ '^[A-Za-z][A-Za-z0-9_.-]{0,99}$'),
    constraint subscription_wants_something check (cardinality(patterns) > 0),
    constraint subscription_attempts_are_positive check (attempts > 0),
    constraint subscription_waits_are_positive check (timeout > '0' and backoff > '0' and backoff_cap > '0'),
    constraint subscription_webhook_is_signed check ((url is null) = (secrets is null)),
    constraint subscription_disabled_says_why check ((disabled_at is null) = (disabled_why is null))
);
comment on table subscription is 'Who is told of which events; from psql read the view subscriptions, which shows no secret.';

create table delivery (
    saga_id      uuid        not null,
    subscription text        not null,
    event        bigint      not null,
    status       text        not null default 'waiting',
    attempts     integer     not null default 0,
    error        text,
    at           timestamptz,
    primary key (saga_id, subscription, event),
    constraint delivery_status_is_known check (status in ('waiting', 'delivered', 'dead')),
    constraint delivery_that_ended_says_when check (status = 'waiting' or at is not null)
);
create index delivery_waiting on delivery (subscription, saga_id, event) where status = 'waiting';
create index delivery_dead on delivery (subscription, saga_id, event) where status = 'dead';
comment on column delivery.at is 'When it was last tried.';

-- The events of one saga on their way to one subscription: at most one of them is in flight. The row is
-- there while a job of pgqueuer looks after it, or is to be made (called = 0).
create table lane (
    subscription text        not null,
    saga_id      uuid        not null,
    called       integer     not null default 0,
    fence        integer     not null default 0,
    due_at       timestamptz not null,
    busy_until   timestamptz,
    primary key (saga_id, subscription)
) with (fillfactor = 50);
create index lane_uncalled on lane (subscription, saga_id) where called = 0;
comment on column lane.fence is 'Raised by every attempt to deliver; only the latest may tell of its end.';

-- Who had what delivered again, and why.
create table redelivery (
    event        bigint      not null,
    subscription text        not null,
    saga_id      uuid        not null,
    actor        text        not null,
    note         text        not null,
    at           timestamptz not null,
    constraint redelivery_has_a_note check (length(trim(note)) > 0)
);
create index redelivery_of_saga on redelivery (saga_id);

-- Limits, schedules, starts of which only one counts, and retention by type. A saga that uses none of
-- it touches none of these tables.

alter table setting add column priority_step interval not null default '1 minute';
alter table setting add constraint setting_priority_step_is_positive check (priority_step > '0');
comment on column setting.priority_step is 'Each point of a saga''s priority counts as having waited this long.';

-- amount null: switched off from SQL, though the program declares it. version: of the definition that
-- declared it; null: set from SQL, and no program changes it.
create table saga_limit (
    type           text    not null,
    name           text    not null,
    amount         integer,
    per            interval,
    path           text,
    counts_waiting boolean not null default false,
    version        integer,
    primary key (type, name),
    constraint limit_name_is_a_name check (name ~ '^[A-Za-z][A-Za-z0-9_.-]{0,99}$'),
    constraint limit_amount_is_not_negative check (amount >= 0),
    constraint limit_period_is_positive check (per > '0'),
    constraint limit_is_a_rate_or_has_a_key check (per is null or (path is null and not counts_waiting))
);
comment on table saga_limit is 'How many sagas of a type run at once, or begin in a period; see docs/limits.md.';

-- One row a type that has limits. Whoever lets sagas of it in holds the row until its commit, so that
-- one lets in at a time. look_at: when somebody has to look again, because a rate lets the next one in.
-- swept_at: not null while sagas that were not let in here are counted, of whose ends nobody tells, or
-- while transactions may be under way that know nothing of the limits; see sweep_gate().
create table gate (
    type       text        primary key,
    look_at    timestamptz,
    swept_at   timestamptz,
    changed_at timestamptz,
    settles_at xid8
);

-- A live saga of a type with limits that has reached the gate. queued: it waits to be let in; running:
-- it holds its slots; waiting: it was let in and waits for a signal, an instant, another saga or a
-- person, and has given back its slots. parked: its commands that were due, and are due again once it
-- is let in. blocked: the limit and key that it found full, looked at again when a slot of it is given
-- back. untold: it ran before it was counted, so nobody tells of its end.
create table ticket (
    saga_id uuid        primary key,
    type    text        not null,
    version integer     not null,
    state   text        not null,
    fresh   boolean     not null,
    rank    timestamptz not null,
    parked  uuid[]      not null default '{}',
    blocked text,
    untold  boolean     not null default false,
    constraint ticket_state_is_known check (state in ('queued', 'running', 'waiting')),
    constraint ticket_that_is_blocked_is_queued check (blocked is null or state = 'queued')
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 5000);
-- What has begun goes on before anything else begins.
create index ticket_queue on ticket (type, version, fresh, rank) where state = 'queued' and blocked is null;
create index ticket_let_in on ticket (type) where state <> 'queued';
create index ticket_blocked on ticket (type, blocked, rank) where blocked is not null;

-- What a limit counts: one row for each saga that has a part of it. key: '' where the limit has none.
create table slot (
    type    text not null,
    name    text not null,
    key     text not null,
    saga_id uuid not null,
    primary key (type, name, key, saga_id)
) with (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 5000);
create index slot_saga on slot (saga_id);

-- Somebody has to look whether a saga can be let in: a slot was given back, a limit changed.
create table knock (
    id      bigint  generated always as identity primary key,
    type    text    not null,
    version integer,
    name    text,
    key     text
) with (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 1000);

-- What a rate counts: how many were let in at an instant.
create table rate_use (
    type   text        not null,
    name   text        not null,
    at     timestamptz not null,
    amount integer     not null
) with (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 1000);
create index rate_use_at on rate_use (type, name, at);

-- last_tick: up to then everything was started or passed over. next_tick: null: not computed yet.
create table schedule (
    name      text        primary key,
    type      text        not null,
    cron      text        not null,
    zone      text        not null,
    input     jsonb       not null,
    catch_up  text        not null,
    paused    boolean     not null default false,
    last_tick timestamptz not null,
    next_tick timestamptz,
    constraint schedule_name_has_1_to_200_characters check (length(name) between 1 and 200),
    constraint schedule_catch_up_is_known check (catch_up in ('none', 'last', 'all'))
);
comment on table schedule is 'Recurring sagas; see the view schedules.';

create table once_per (
    type       text        not null,
    key        text        not null,
    saga_id    uuid,
    saga_key   text,
    started_at timestamptz not null,
    until      timestamptz not null,
    primary key (type, key)
);
create index once_per_until on once_per (until);
comment on table once_per is 'The last start of each key that may start once in a period.';

create table debounce (
    type     text        not null,
    key      text        not null,
    saga_id  uuid,
    saga_key text,
    first_at timestamptz not null,
    primary key (type, key)
);
comment on table debounce is 'The last start of each key whose bursts become one saga.';

create table retention (
    type text     primary key,
    keep interval not null,
    constraint retention_is_positive check (keep > '0')
);
comment on table retention is 'How long finished sagas of a type are kept, where that is not setting.retention.';

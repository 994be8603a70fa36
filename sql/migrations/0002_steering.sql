-- What a person may do to sagas beyond retry, abort and resolve: pauses, reruns, and what an act found.

alter table setting add column pauses boolean not null default false;
comment on column setting.pauses is 'Whether anything is paused; pause() and resume() keep it.';

-- Who paused what, and who let it go on: a saga; or a type; or, with neither, everything.
create table pause (
    number      bigint      generated always as identity primary key,
    saga_id     uuid,
    type        text,
    note        text        not null,
    actor       text        not null,
    at          timestamptz not null,
    resumed_at  timestamptz,
    resumed_by  text,
    resume_note text,
    constraint pause_is_of_one_thing check (saga_id is null or type is null),
    constraint pause_has_a_note check (length(trim(note)) > 0)
);
create unique index pause_of_saga on pause (saga_id) where resumed_at is null and saga_id is not null;
create unique index pause_of_type on pause (coalesce(type, '')) where resumed_at is null and saga_id is null;

-- A saga that was started because another one had ended otherwise than it should.
create table rerun (
    saga_id uuid        primary key,
    of      uuid        not null,
    number  integer     not null,
    actor   text        not null,
    note    text        not null,
    at      timestamptz not null,
    constraint rerun_has_a_note check (length(trim(note)) > 0)
);
create index rerun_of on rerun (of);

-- step, reason and error: of what was suspended when the act came.
alter table act
    add column step text,
    add column reason text,
    add column error jsonb;
create index act_words on act using gin (to_tsvector('english',
    note || ' ' || coalesce(reason, '') || ' ' || coalesce(error ->> 'type', '') || ' ' || coalesce(error ->> 'message', '')))
    where step is not null;

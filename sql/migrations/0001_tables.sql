-- The tables of the engine. Names are unqualified: the migrator sets search_path.

-- What holds for the whole installation, changeable live: update setting set stuck_after = '1 hour'.
create table setting (
    only_row         boolean  primary key default true,
    max_input_bytes  integer  not null default 262144,
    max_result_bytes integer  not null default 262144,
    stuck_after      interval not null default '5 minutes',
    max_deaths       integer  not null default 5,
    hold             interval not null default '30 seconds',
    grace            interval not null default '2 seconds',
    retention        interval not null default '30 days',
    constraint setting_is_one_row check (only_row),
    constraint setting_max_input_bytes_is_positive check (max_input_bytes > 0),
    constraint setting_max_result_bytes_is_positive check (max_result_bytes > 0),
    constraint setting_max_deaths_is_positive check (max_deaths > 0),
    constraint setting_intervals_are_positive check (
        stuck_after > '0' and hold > '0' and grace >= '0' and retention > '0')
);
insert into setting default values;

comment on table setting is 'Settings of the whole installation, one row; workers see a change within a heartbeat.';
comment on column setting.max_input_bytes is 'A saga''s input may have this many bytes as JSON text.';
comment on column setting.max_result_bytes is 'A step''s result may have this many bytes as JSON text.';
comment on column setting.stuck_after is 'A saga with no transition for longer than this is stuck.';
comment on column setting.max_deaths is 'A command that saw this many workers die is suspended as one that kills them.';
comment on column setting.hold is 'How long a worker may keep a claimed command before it begins it.';
comment on column setting.grace is 'What is in doubt is not undone before its attempt''s deadline plus this.';
comment on column setting.retention is 'Finished sagas are kept this long.';

create table definition (
    type          text        not null,
    version       integer     not null,
    steps         jsonb       not null,
    input_schema  jsonb       not null,
    input_fields  jsonb       not null,
    deadline      interval,
    registered_at timestamptz not null default now(),
    primary key (type, version),
    constraint definition_type_is_a_name check (type ~ '^[A-Za-z][A-Za-z0-9_.-]{0,99}$'),
    constraint definition_version_is_positive check (version > 0),
    constraint definition_deadline_is_positive check (deadline > '0')
);
comment on table definition is 'A registered version of a saga type.';

-- The steps of a definition as rows, which the transitions join. `undo_…` speak of the compensation,
-- `ask_…` of the reconcile, `next_…` of the step that follows.
create table definition_step (
    type               text     not null,
    version            integer  not null,
    name               text     not null,
    position           integer  not null,
    does               text     not null default 'action',
    next               text,
    next_timeout       interval,
    heads              text[],
    signal             text,
    fans_out           boolean  not null default false,
    concurrency        integer,
    best_effort        boolean  not null default false,
    optional           boolean  not null default false,
    reconciles         boolean  not null default false,
    key_age            interval,
    plain              boolean  not null default true,
    state              text     not null,
    pivot              boolean  not null,
    after_pivot        boolean  not null,
    transactional      boolean  not null,
    timeout            interval not null,
    attempts           integer  not null,
    backoff            interval not null,
    backoff_cap        interval not null,
    undo               boolean  not null,
    undo_transactional boolean  not null,
    undo_timeout       interval not null,
    undo_attempts      integer  not null,
    undo_backoff       interval not null,
    undo_backoff_cap   interval not null,
    ask_timeout        interval,
    ask_attempts       integer,
    ask_backoff        interval,
    ask_backoff_cap    interval,
    nothing_to_undo    text,
    primary key (type, version, name),
    unique (type, version, position),
    foreign key (type, version) references definition (type, version) on delete cascade,
    constraint step_name_is_a_name check (name ~ '^[A-Za-z][A-Za-z0-9_.-]{0,99}$'),
    constraint step_attempts_are_positive check (attempts > 0 and undo_attempts > 0),
    constraint step_timeout_is_positive check (timeout > '0' and undo_timeout > '0'),
    constraint step_does_something_known check (
        does in ('action', 'sleep', 'signal', 'saga', 'parallel', 'choice')),
    constraint step_concurrency_is_positive check (concurrency > 0),
    constraint step_that_reconciles_says_how_long check (not reconciles or ask_timeout > '0'),
    constraint step_before_the_pivot_says_how_it_is_undone check (
        undo or nothing_to_undo is not null or pivot or after_pivot)
);
comment on column definition_step.next is 'The step that follows on the same line; null: the line ends.';
comment on column definition_step.heads is 'Of a parallel group the first step of each branch, of a choice that of each alternative.';
comment on column definition_step.plain is 'advance() and divert() know all that can become of it; else step_on() decides.';

-- A saga that another one started: by which of its commands, and the line there that waits for it.
create table child (
    saga_id uuid    primary key,
    parent  uuid    not null,
    ordinal integer not null,
    line    uuid    not null
);
create index child_parent on child (parent, ordinal);

-- What was told a saga from outside. ordinal: the command that it reached; null: none has asked yet.
create table signal (
    saga_id uuid        not null,
    number  bigint      generated always as identity,
    name    text        not null,
    key     text        not null,
    payload json,
    actor   text        not null,
    at      timestamptz not null,
    ordinal integer,
    primary key (saga_id, number),
    constraint signal_once_a_key unique (saga_id, name, key),
    constraint signal_name_is_a_name check (name ~ '^[A-Za-z][A-Za-z0-9_.-]{0,99}$'),
    constraint signal_key_has_1_to_512_characters check (length(key) between 1 and 512)
);
comment on table signal is 'Signals that sagas were sent, those that came early too.';

-- By when a saga has to have ended; looked at only when that is past.
create table deadline (
    saga_id uuid        primary key,
    at      timestamptz not null
);
create index deadline_at on deadline (at);

-- Written at the start and at the end of a saga, never in between. Keys are compared as bytes, so that the
-- unique index finds those that begin alike.
create table instance (
    id         uuid        primary key,
    type       text        not null,
    version    integer     not null,
    key        text collate "C" not null,
    input      jsonb       not null,
    status     text,
    state      text,
    output     json,
    error      jsonb,
    created_at timestamptz not null,
    ended_at   timestamptz,
    constraint instance_key_is_unique_within_its_type unique (type, key),
    constraint instance_key_has_1_to_512_characters check (length(key) between 1 and 512),
    constraint instance_status_is_final_or_null check (status in ('COMPLETED', 'FAILED')),
    constraint instance_ends_with_a_status check ((status is null) = (ended_at is null)),
    constraint instance_failed_says_why check (status is distinct from 'FAILED' or error is not null)
) with (fillfactor = 50);
comment on table instance is 'One row a saga. status and ended_at are null while it lives: see overview.';

-- What a text may be is said by domains: Postgres reads the checks of a domain once a session, those
-- of a table anew in every statement, which a commit of one command would feel.
create domain live_status as text constraint status_is_live check (
    value in ('CREATED', 'EXECUTING', 'COMPENSATING', 'SUSPENDED'));
-- A completed sub-saga lives again when its parent is undone.
create domain former_status as text constraint status_can_be_left check (
    value in ('CREATED', 'EXECUTING', 'COMPENSATING', 'SUSPENDED', 'COMPLETED'));
create domain next_status as text constraint status_can_be_reached check (
    value in ('CREATED', 'EXECUTING', 'COMPENSATING', 'SUSPENDED', 'COMPLETED', 'FAILED'));
create domain command_kind as text constraint command_kind_is_known check (
    value in ('action', 'compensation', 'reconcile'));
create domain transition_kind as text constraint transition_kind_is_known check (
    value in ('action', 'compensation', 'reconcile', 'act'));
create domain transition_outcome as text constraint transition_outcome_is_known check (
    value in ('done', 'retry', 'rejected', 'in_doubt', 'skipped', 'waiting', 'joined', 'act'));
create domain awaited as text constraint awaited_is_known check (
    value in ('time', 'signal', 'saga', 'lines', 'resume'));

-- One row per line of a live saga: its current state and its next command, updated in place, deleted
-- at the end. A saga has one line, its main line, whose id is its own; while branches or elements run
-- side by side each has a line of its own, and the line that joins them waits. seq, abort and, while it
-- has other lines, ordinal speak of the whole saga on its main line.
-- The columns that every step changes stand side by side, between those that it leaves alone: the log
-- of an update in place holds only the bytes between the first and the last that changed.
create table outbox (
    id          uuid        primary key,
    version     integer     not null,
    attempt     integer     not null default 0,
    failures    integer     not null default 0,
    deaths      integer     not null default 0,
    revision    integer     not null default 0,
    undoes      integer,
    abort       boolean     not null default false,
    tail        boolean     not null default false,
    type        text        not null,
    status      live_status not null,
    kind        command_kind not null default 'action',
    seq         integer     not null default 0,
    fence       integer     not null default 0,
    ordinal     integer     not null default 1,
    moved_at    timestamptz not null,
    deadline    timestamptz,
    step        text        not null,
    state       text        not null,
    worker      uuid,
    due_at      timestamptz not null,
    doubt_until timestamptz,
    reason      text,
    root        uuid,
    parent      uuid,
    lines       integer,
    element     integer,
    elements    integer,
    awaits      awaited,
    action_failures integer,
    constraint outbox_line_has_root_and_parent check ((root is null) = (parent is null)),
    constraint outbox_compensation_names_what_it_undoes check (
        (kind = 'compensation') = (undoes is not null)),
    constraint outbox_reconcile_remembers_the_action check (
        (kind = 'reconcile') = (action_failures is not null)),
    constraint outbox_held_command_has_a_deadline check ((worker is null) = (deadline is null)),
    constraint outbox_suspended_is_held_by_nobody check (status <> 'SUSPENDED' or worker is null),
    constraint outbox_suspended_says_why check ((status = 'SUSPENDED') = (reason is not null)),
    constraint outbox_created_is_held_by_nobody check (status <> 'CREATED' or worker is null),
    constraint outbox_compensates_only_when_it_should check (
        (kind <> 'compensation') = (status = 'EXECUTING') or status in ('CREATED', 'SUSPENDED'))
) with (
    fillfactor = 30,
    autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0.0, autovacuum_vacuum_insert_threshold = 50000,
    autovacuum_analyze_scale_factor = 0.0, autovacuum_analyze_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0
);
comment on table outbox is 'The commands: what to do next for each live saga. Change it only through the functions.';
comment on column outbox.fence is 'Raised by every claim, advance, release and operator act that takes the row over.';
comment on column outbox.seq is 'The number of transitions so far.';
comment on column outbox.ordinal is 'The order in which this saga''s commands were created.';
comment on column outbox.attempt is 'Attempts of this command that have ended; failures are those that count against its policy.';
comment on column outbox.doubt_until is 'Not null: an attempt was left in doubt; nothing of it is undone before this instant.';
comment on column outbox.deadline is 'The holder''s attempt has ended by then, whatever happens.';
comment on column outbox.tail is 'Somebody waits for this saga''s end, or a limit counts it: step_on() ends it.';
comment on column outbox.root is 'The saga, on a line beside its main line.';
comment on column outbox.parent is 'The line that goes on when this one and those beside it have ended.';
comment on column outbox.lines is 'How many lines this one waits for; on the main line of a saga that failed, all that still run.';
comment on column outbox.element is 'The place of the element, from 0; on the line that hands them out, the next one.';
comment on column outbox.elements is 'On the line that hands out elements: how many there are.';
comment on column outbox.awaits is 'What the command waits for until due_at; null: only to be claimed.';
comment on column outbox.action_failures is 'Of a reconcile: the failures of the action that it asks after.';

-- Neither index holds a column that a step changes, so that a step''s update is HOT.
create index outbox_due on outbox (type, version, due_at)
    where worker is null and status <> 'SUSPENDED';
create index outbox_held on outbox (worker) where worker is not null;
create index outbox_lines on outbox (root) where root is not null;

create table transition (
    saga_id     uuid        not null,
    at          timestamptz not null,
    seq         integer     not null,
    ordinal     integer     not null,
    attempt     integer     not null,
    fence       integer     not null,
    took        real,
    undoes      integer,
    due_at      timestamptz,
    worker      uuid,
    kind        transition_kind not null,
    outcome     transition_outcome not null,
    from_status former_status not null,
    to_status   next_status not null,
    step        text        not null,
    state       text,
    result      json,
    error       jsonb,
    element     integer,
    line        uuid,
    primary key (saga_id, seq),
    constraint transition_seq_is_positive check (seq > 0),
    -- json, unlike jsonb, takes a NUL, which nobody could read; the cast refuses it.
    constraint transition_result_has_no_nul check (
        position('\u0000' in result::text) = 0 or result::jsonb is not null),
    constraint transition_failure_says_why check (
        outcome not in ('retry', 'rejected', 'in_doubt') or error is not null),
    -- An act may leave the status as it is.
    constraint transition_is_legal check (case from_status
        when 'EXECUTING' then to_status <> 'CREATED'
        when 'COMPENSATING' then to_status not in ('CREATED', 'EXECUTING', 'COMPLETED')
        when 'SUSPENDED' then to_status <> 'CREATED' and (to_status <> 'SUSPENDED' or kind = 'act')
        when 'COMPLETED' then to_status in ('COMPENSATING', 'FAILED')
        else to_status = 'FAILED' or (to_status = 'CREATED' and kind = 'act') end)
) with (
    autovacuum_vacuum_insert_scale_factor = 0.2, autovacuum_analyze_scale_factor = 0.2
);
create index transition_of_line on transition (line, fence) where line is not null;
comment on table transition is 'The history, append-only; from psql read the view timeline.';
comment on column transition.took is 'Seconds.';
comment on column transition.line is 'The line beside the main line that made it.';
comment on column transition.state is 'The saga''s domain state afterwards; null: the one that the step declares.';

create table worker (
    id           uuid        primary key,
    host         text        not null,
    pid          integer     not null,
    types        text[]      not null,
    versions     integer[]   not null,
    lease        interval    not null,
    started_at   timestamptz not null,
    heartbeat_at timestamptz not null,
    expires_at   timestamptz not null,
    idle         boolean     not null default false,
    draining     boolean     not null default false,
    constraint worker_lease_is_positive check (lease > '0')
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 200);
comment on table worker is 'One row a worker process, under a fresh id at every registration.';

-- What a person did to a saga, beside the transition that it made.
create table act (
    saga_id uuid        not null,
    seq     integer     not null,
    act     text        not null,
    actor   text        not null,
    note    text        not null,
    at      timestamptz not null,
    detail  jsonb,
    primary key (saga_id, seq),
    constraint act_is_known check (act in (
        'retry', 'abort', 'resolve', 'cancel', 'skip', 'amend', 'pause', 'resume', 'move', 'deadline')),
    constraint act_has_a_note check (length(trim(note)) > 0)
);

-- One row an episode: raised once, resolved when it is over.
create table alert (
    id          bigint      generated always as identity primary key,
    saga_id     uuid        not null,
    kind        text        not null,
    seq         integer     not null,
    message     text        not null,
    raised_at   timestamptz not null,
    resolved_at timestamptz,
    constraint alert_kind_is_known check (kind in ('stuck', 'suspended')),
    constraint alert_once_an_episode unique (saga_id, kind, seq)
);
create index alert_open on alert (saga_id) where resolved_at is null;

create function refuse_illegal_move() returns trigger language plpgsql as $$
begin
    raise exception 'saga % cannot go from % to %', new.id,
        coalesce(old.status, 'live'), coalesce(new.status, 'live')
        using errcode = 'SG009', hint = 'The legal moves are in docs/architecture.md.';
end $$;

-- The condition does the work, so that a legal move never calls the function. After the update, since
-- a trigger before it would lock each row once more.
create trigger outbox_move_is_legal after update of status on outbox
    for each row when (
        old.status is distinct from new.status and (old.status, new.status) not in (
            ('CREATED', 'EXECUTING'), ('EXECUTING', 'COMPENSATING'),
            ('EXECUTING', 'SUSPENDED'), ('COMPENSATING', 'SUSPENDED'),
            ('SUSPENDED', 'EXECUTING'), ('SUSPENDED', 'COMPENSATING')))
    execute function refuse_illegal_move();

create trigger instance_end_is_final after update of status on instance
    for each row when (
        old.status is distinct from new.status and old.status is not null
        and not (old.status = 'COMPLETED' and new.status is null))
    execute function refuse_illegal_move();

-- Starts a saga in the caller's transaction and returns its id, or that of the saga with this key.
create or replace function start(
    p_type text, p_input jsonb, p_key text default null,
    p_version integer default null, p_due_at timestamptz default null, p_priority integer default 0)
returns uuid language sql volatile security definer set search_path from current as $$
    select s.id from start_many(p_type, array[p_input], array[p_key], p_version, p_due_at, p_priority) as s
$$;
comment on function start is 'Starts a saga in the caller''s transaction; idempotent per (type, key): select saga.start(''payment'', ''{…}'', ''order-42'')';

-- The live sagas of a version: those that nobody would run any more if it went.
create or replace function version_in_use(p_type text, p_version integer)
returns table (saga_id uuid, key text, status text, step text, created_at timestamptz)
language sql stable security definer set search_path from current as $$
    select o.id, i.key, o.status::text, o.step, i.created_at
    from outbox o join instance i on i.id = o.id
    where o.type = p_type and o.version = p_version and o.root is null
    order by o.id
$$;
comment on function version_in_use is 'The live sagas that need a version: select * from saga.version_in_use(''payment'', 1)';

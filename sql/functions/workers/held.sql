-- What a worker holds, for it to compare with what it knows of.
create or replace function held(p_worker uuid)
returns table (command uuid, fence integer)
language sql stable security definer set search_path from current as $$
    select id, fence from outbox where worker = p_worker
$$;

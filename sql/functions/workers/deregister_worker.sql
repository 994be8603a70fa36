-- An orderly end: gives back what the worker still holds as not begun, and forgets the worker.
create or replace function deregister_worker(p_worker uuid) returns void
language plpgsql security definer set search_path from current as $$
declare
    v_types text[];
begin
    delete from worker where id = p_worker;
    perform 1 from outbox where worker = p_worker order by id for no key update;
    with freed as (
        update outbox set worker = null, deadline = null, fence = fence + 1
        where worker = p_worker returning type
    )
    select array_agg(distinct f.type) into v_types from freed f;
    perform wake(t) from unnest(v_types) as t;
end $$;

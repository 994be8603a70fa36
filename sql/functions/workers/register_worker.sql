-- Registers a worker process under a fresh id.
create or replace function register_worker(
    p_worker uuid, p_host text, p_pid integer, p_types text[], p_versions integer[], p_lease interval)
returns void language sql volatile security definer set search_path from current as $$
    insert into worker (id, host, pid, types, versions, lease, started_at, heartbeat_at, expires_at)
    select p_worker, p_host, p_pid, p_types, p_versions, p_lease, c.now, c.now, c.now + p_lease
    from (select clock() as now) as c
$$;

-- What set_limit() and declare_limits() have in common: the limit, and what of it is taken already.
create or replace function put_limit(
    p_type text, p_name text, p_amount integer, p_per interval, p_path text, p_counts_waiting boolean,
    p_version integer, p_note text)
returns void language plpgsql set search_path from current as $$
declare
    v_old saga_limit;
    v_new saga_limit;
begin
    insert into gate (type) values (p_type) on conflict (type) do update set type = excluded.type;
    select * into v_old from saga_limit where type = p_type and name = p_name;
    insert into saga_limit (type, name, amount, per, path, counts_waiting, version)
    values (p_type, p_name, p_amount, p_per, p_path, p_counts_waiting, p_version)
    on conflict (type, name) do update
    set amount = excluded.amount, per = excluded.per, path = excluded.path,
        counts_waiting = excluded.counts_waiting, version = excluded.version
    returning * into v_new;
    perform note_change('limit', case when p_version is null then 'set' else 'declare' end, p_type, p_name, p_note,
        limit_rule(v_old), limit_rule(v_new));
    if v_old.amount is null
        or (v_old.per is null, v_old.path, v_old.counts_waiting) is distinct from (p_per is null, p_path, p_counts_waiting)
    then
        perform drop_slots(p_type, p_name);
        update gate set changed_at = clock(), settles_at = null where type = p_type;
        perform sweep_gate(p_type, clock());
    end if;
    insert into knock (type, name) values (p_type, p_name);
    perform wake(p_type);
end $$;

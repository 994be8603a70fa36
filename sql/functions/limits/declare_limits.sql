-- Registers the limits that a definition declares: [{"name", "amount", "per", "path", "counts_waiting"}].
-- Those that were set or dropped from SQL stay as they are, and those of a newer version too.
create or replace function declare_limits(p_type text, p_version integer, p_limits jsonb) returns void
language plpgsql security definer set search_path from current as $$
declare
    v_limit record;
begin
    if exists (select from definition where type = p_type and version > p_version)
        or (p_limits = '[]' and not exists (select from saga_limit where type = p_type))
    then
        return;
    end if;
    perform 1 from gate where type = p_type for update;
    for v_limit in
        select l as old, l.name from saga_limit l
        where l.type = p_type and l.version is not null and not exists (
            select from jsonb_array_elements(p_limits) as g where g ->> 'name' = l.name)
    loop
        delete from saga_limit where type = p_type and name = v_limit.name;
        perform open_gate(p_type, v_limit.name);
        perform note_change('limit', 'declare', p_type, v_limit.name,
            format('version %s has no such limit', p_version), limit_rule(v_limit.old), null);
    end loop;
    for v_limit in
        select g.* from jsonb_to_recordset(p_limits)
            as g(name text, amount integer, per interval, path text, counts_waiting boolean)
        left join saga_limit l on l.type = p_type and l.name = g.name
        where l.type is null or (l.version is not null
            and (l.amount, l.per, l.path, l.counts_waiting)
                is distinct from (g.amount, g.per, g.path, g.counts_waiting))
        order by g.name
    loop
        perform put_limit(
            p_type, v_limit.name, v_limit.amount, v_limit.per, v_limit.path, v_limit.counts_waiting, p_version,
            format('version %s declares it', p_version));
    end loop;
end $$;

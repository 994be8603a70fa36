-- The sagas that a filter can only mean by its key, its key's beginning, or its type: their ids, the newest
-- first; null where they are more than p_most, or the filter says nothing of the kind.
create or replace function sagas_named(p_type text, p_key text, p_prefix text, p_most integer) returns uuid[]
language plpgsql stable set search_path from current
set plan_cache_mode to force_custom_plan set enable_seqscan to off set jit to off as $$
declare
    v_types text[] := case when p_type is not null then array[p_type]
        else array(select distinct d.type from definition d) end;
    v_type text;
    v_found uuid[] := '{}';
begin
    if p_key is null and p_prefix is null and p_type is null then
        return null;
    end if;
    foreach v_type in array v_types loop
        if p_key is not null then
            v_found := v_found || array(
                select i.id from instance i where i.type = v_type and i.key = p_key);
        elsif p_prefix is not null then
            v_found := v_found || array(
                select i.id from instance i
                where i.type = v_type and i.key ^@ p_prefix limit p_most + 1);
        else
            -- Counted in the index alone, before the rows are looked at.
            perform from instance i where i.type = v_type offset p_most limit 1;
            if found then
                return null;
            end if;
            v_found := array(select i.id from instance i where i.type = v_type);
        end if;
        if cardinality(v_found) > p_most then
            return null;
        end if;
    end loop;
    return array(select f from unnest(v_found) as f order by f desc);
end $$;

-- Gives back slots of a saga, whose main line the caller holds: all of them, or those that are not
-- counted while it waits. Whoever lets sagas in hears of it.
create or replace function give_slots_back(p_saga uuid, p_all boolean) returns void
language plpgsql set search_path from current as $$
declare
    v_type text;
begin
    with given as (
        delete from slot s where s.saga_id = p_saga and (p_all or not exists (
            select from saga_limit l where l.type = s.type and l.name = s.name and l.counts_waiting))
        returning s.type, s.name, s.key
    ), knocked as (
        insert into knock (type, name, key)
        select g.type, case when g.key <> '' then g.name end, nullif(g.key, '') from given g
    )
    select max(g.type) into v_type from given g;
    if v_type is not null then
        perform wake(v_type);
    end if;
end $$;

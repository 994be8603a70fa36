-- Removes finished sagas older than setting.retention, oldest first, at most p_limit of them, with
-- their history. Ids sort by creation, so the oldest are at the start of the primary key; p_after is
-- where the last batch ended. Skips what others have locked. Returns how many were removed and where
-- to go on, null at the end.
create or replace function purge(p_limit integer default 500, p_after uuid default null)
returns table (removed integer, next_after uuid)
language plpgsql security definer set search_path from current as $$
declare
    v_cutoff timestamptz := clock() - (select s.retention from setting s);
    v_seen uuid[];
    v_gone uuid[];
begin
    v_seen := array(
        select i.id from instance i
        where i.id < first_id_at(v_cutoff) and (p_after is null or i.id > p_after)
        order by i.id limit p_limit);
    v_gone := array(
        select i.id from instance i
        where i.id = any (v_seen) and i.ended_at < v_cutoff
        order by i.id for update skip locked);
    delete from transition t where t.saga_id = any (v_gone);
    delete from child c where c.saga_id = any (v_gone);
    delete from signal s where s.saga_id = any (v_gone);
    delete from deadline d where d.saga_id = any (v_gone);
    delete from act a where a.saga_id = any (v_gone);
    delete from once_result o where o.saga_id = any (v_gone);
    if exists (select from lane l where l.saga_id = any (v_gone))
        or exists (select from event e where e.saga_id = any (v_gone) and not e.relayed)
    then
        perform pg_advisory_xact_lock(route_key());
        delete from lane l where l.saga_id = any (v_gone);
    end if;
    delete from delivery d where d.saga_id = any (v_gone);
    delete from redelivery r where r.saga_id = any (v_gone);
    delete from event e where e.saga_id = any (v_gone);
    delete from alert a where a.saga_id = any (v_gone);
    delete from instance i where i.id = any (v_gone);
    removed := cardinality(v_gone);
    next_after := case when cardinality(v_seen) = p_limit then v_seen[p_limit] end;
    if next_after is null then
        -- What pgqueuer notes of its jobs, several rows each; nothing of ours reads it.
        delete from pgqueuer_log l where l.created < now() - interval '1 day';
    end if;
    return next;
end $$;

-- Removes finished sagas older than their type's retention or, without one, setting.retention, oldest
-- first, at most p_limit of them, with their history. Ids sort by creation, so the oldest are at the
-- start of the primary key; p_after is where the last batch ended. Skips what others have locked.
-- Returns how many were removed and where to go on, null at the end.
create or replace function purge(p_limit integer default 500, p_after uuid default null)
returns table (removed integer, next_after uuid)
language plpgsql security definer set search_path from current as $$
declare
    v_now timestamptz := clock();
    v_keep interval := (select s.retention from setting s);
    v_shortest interval := least(v_keep, (select min(r.keep) from retention r));
    v_seen uuid[];
begin
    v_seen := array(
        select i.id from instance i
        where i.id < first_id_at(v_now - v_shortest) and (p_after is null or i.id > p_after)
        order by i.id limit p_limit);
    removed := forget_sagas(array(
        select i.id from instance i
        left join retention r on r.type = i.type
        where i.id = any (v_seen) and i.ended_at < v_now - coalesce(r.keep, v_keep)), v_now);
    delete from once_per w where w.ctid = any (array(
        select p.ctid from once_per p where p.until < v_now limit p_limit for update skip locked));
    delete from debounce w where w.ctid = any (array(
        select p.ctid from debounce p
        where p.first_at < v_now - interval '1 day' and not exists (select from outbox o where o.id = p.saga_id)
        limit p_limit for update skip locked));
    next_after := case when cardinality(v_seen) = p_limit then v_seen[p_limit] end;
    if next_after is null then
        perform forget_type_alerts(v_now - v_keep);
        -- What pgqueuer notes of its jobs, several rows each; nothing of ours reads it.
        delete from pgqueuer_log l where l.created < now() - interval '1 day';
    end if;
    return next;
end $$;

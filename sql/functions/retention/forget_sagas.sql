-- Removes those of some sagas that ended before an instant, with all that is known of them; those that
-- somebody has locked stay. Returns how many were removed.
create or replace function forget_sagas(p_sagas uuid[], p_before timestamptz) returns integer
language plpgsql set search_path from current as $$
declare
    v_gone uuid[] := array(
        select i.id from instance i where i.id = any (p_sagas) and i.ended_at < p_before
        order by i.id for update skip locked);
begin
    delete from transition t where t.saga_id = any (v_gone);
    delete from child c where c.saga_id = any (v_gone);
    delete from signal s where s.saga_id = any (v_gone);
    delete from deadline d where d.saga_id = any (v_gone);
    delete from pause p where p.saga_id = any (v_gone);
    delete from rerun r where r.saga_id = any (v_gone);
    delete from failure f where f.saga_id = any (v_gone);
    delete from act a where a.saga_id = any (v_gone);
    delete from trace_context t where t.saga_id = any (v_gone);
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
    return cardinality(v_gone);
end $$;

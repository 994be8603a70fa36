-- Removes the alerts of types that were over before an instant, and their events.
create or replace function forget_type_alerts(p_before timestamptz) returns void
language plpgsql set search_path from current as $$
declare
    v_nobody constant uuid := '00000000-0000-0000-0000-000000000000';
    v_events bigint[];
begin
    delete from type_alert t where t.resolved_at < p_before;
    v_events := array(
        select e.number from event e where e.saga_id = v_nobody and e.at < p_before and e.relayed);
    delete from delivery d where d.saga_id = v_nobody and d.event = any (v_events);
    delete from redelivery r where r.saga_id = v_nobody and r.event = any (v_events);
    delete from event e where e.number = any (v_events);
end $$;

-- Ends a subscription; what it has not been told is forgotten. Answers how many events that are.
create or replace function unsubscribe(p_name text, p_note text default null) returns integer
language plpgsql security definer set search_path from current as $$
declare
    v_waiting integer;
    v_old subscription;
begin
    perform pg_advisory_xact_lock(route_key());
    delete from subscription s where s.name = p_name returning * into v_old;
    if not found then
        raise exception 'there is no subscription "%"', p_name using errcode = 'SG004', hint = coalesce(
            'There are: ' || (select string_agg(s.name, ', ' order by s.name) from subscription s), 'There is none.');
    end if;
    perform note_change('subscription', 'drop', null, p_name, p_note, subscription_rule(v_old), null);
    delete from lane l where l.subscription = p_name;
    select count(*) into v_waiting from delivery d where d.subscription = p_name and d.status = 'waiting';
    delete from delivery d where d.subscription = p_name;
    return v_waiting;
end $$;
comment on function unsubscribe is 'Ends a subscription: select saga.unsubscribe(''shop'')';

-- Operator act: pauses every saga of a type, or everything. What is in flight finishes its attempt, then
-- nothing begins until resume(); sagas may be started, signalled and cancelled meanwhile. Returns how
-- many commands are in flight.
create or replace function pause(p_note text, p_type text default null) returns integer
language plpgsql security definer set search_path from current as $$
declare
    v_old pause;
begin
    perform pauses_lock(p_note);
    if p_type is not null and not exists (select from definition where type = p_type) then
        raise exception 'unknown saga type "%"', p_type using errcode = 'SG001', hint = 'Registered: ' || coalesce(
            (select string_agg(distinct d.type, ', ') from definition d), 'none yet');
    end if;
    select * into v_old from pause p
    where p.saga_id is null and p.resumed_at is null and p.type is not distinct from p_type;
    if found then
        raise exception '% is paused already, by % since %: %', coalesce('saga type "' || p_type || '"', 'everything'),
            v_old.actor, v_old.at, v_old.note using errcode = 'SG005', hint = 'Nothing was changed.';
    end if;
    insert into pause (type, note, actor, at) values (p_type, p_note, actor(), clock());
    perform pauses_note();
    return (select count(*) from outbox where worker is not null and (p_type is null or type = p_type));
end $$;
comment on function pause is 'Operator act: begin nothing more of a type, or at all: select saga.pause(''why'', ''payment'')';

-- The last thing that is done to a saga in a transaction: its last transition says to which status and
-- state it led.
create or replace function show_move(p_saga uuid) returns void
language plpgsql set search_path from current as $$
declare
    v_status text;
    v_state text;
    v_due timestamptz;
    v_tail boolean;
begin
    select coalesce(i.status, o.status::text), coalesce(i.state, o.state),
        case when o.kind = 'compensation' and o.worker is null and o.attempt = 0 then o.due_at end,
        o.tail
    into v_status, v_state, v_due, v_tail
    from instance i left join outbox o on o.id = i.id where i.id = p_saga;
    update transition t
    set to_status = v_status, state = v_state,
        due_at = coalesce(t.due_at, case when v_due > t.at and t.kind <> 'act' then v_due end)
    from (select x.seq from transition x where x.saga_id = p_saga order by x.seq desc limit 1) as last
    where t.saga_id = p_saga and t.seq = last.seq
      and (t.to_status <> v_status or t.state is distinct from v_state or v_due > t.at);
    if v_tail then
        perform keep_slots(p_saga);
    end if;
end $$;

-- A line has come to its end: the main line's is the saga's; another one takes the next element that
-- is handed out, or is joined by its parent once those beside it have ended too.
create or replace function line_ends(p_line uuid, p_worker uuid, p_now timestamptz)
returns void language plpgsql set search_path from current as $$
declare
    v_line outbox;
    v_parent outbox;
begin
    select * into strict v_line from outbox where id = p_line;
    if v_line.root is null then
        perform saga_ends(p_line, 'COMPLETED', null, p_now);
        return;
    end if;
    update outbox set element = element + 1
        where id = v_line.parent and element < elements and step = v_line.step
        returning * into v_parent;
    if found then
        update outbox set element = v_parent.element - 1 where id = p_line;
        perform line_goes_on(p_line, v_line.step, p_worker, p_now);
        return;
    end if;
    delete from outbox where id = p_line;
    update outbox set lines = lines - 1 where id = v_line.parent returning * into v_parent;
    if v_parent.lines = 0 then
        perform line_joins(v_parent.id, p_now);
    end if;
end $$;

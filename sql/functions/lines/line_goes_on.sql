-- Puts a line on another step of its sequence; without one, the line has come to its end. p_worker, if
-- it is not null, keeps the command; else whoever claims it goes on.
create or replace function line_goes_on(p_line uuid, p_next text, p_worker uuid, p_now timestamptz)
returns void language plpgsql set search_path from current as $$
declare
    v_line outbox;
    v_ordinal integer;
begin
    if p_next is null then
        perform line_ends(p_line, p_worker, p_now);
        return;
    end if;
    select * into strict v_line from outbox where id = p_line;
    if p_worker is not null and (select s.pauses from setting s)
            and is_paused(coalesce(v_line.root, p_line), v_line.type) then
        p_worker := null;
    end if;
    update outbox set ordinal = ordinal + 1 where id = coalesce(v_line.root, p_line)
        returning ordinal into v_ordinal;
    update outbox o
    set step = p_next, kind = 'action', ordinal = v_ordinal, attempt = 0, failures = 0, deaths = 0,
        revision = 0, doubt_until = null, awaits = null, action_failures = null, lines = null,
        elements = null, element = case when o.elements is null then o.element end,
        fence = o.fence + 1, moved_at = p_now, worker = p_worker,
        due_at = case when p_worker is null then p_now else o.due_at end,
        deadline = case when p_worker is not null then p_now + (select s.hold from setting s) + s.timeout end
    from definition_step s
    where o.id = p_line and s.type = o.type and s.version = o.version and s.name = p_next;
    if p_worker is null then
        perform wake(v_line.type);
    end if;
end $$;

-- A command has to be looked at by a person, who decides how it goes on.
create or replace function line_suspends(
    p_line outbox, p_error jsonb, p_took real, p_worker uuid, p_now timestamptz)
returns void language plpgsql set search_path from current as $$
begin
    perform record(p_line, (p_line).kind, 'rejected', p_now, p_error => p_error, p_took => p_took, p_worker => p_worker);
    update outbox
    set status = 'SUSPENDED', attempt = attempt + 1, awaits = null, worker = null, deadline = null,
        fence = fence + 1, reason = format('step "%s": %s', step, coalesce(p_error ->> 'message', p_error ->> 'type'))
    where id = (p_line).id;
end $$;

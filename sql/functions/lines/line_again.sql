-- A command runs again, now and with its whole policy. One whose failure is known to have had no effect
-- gets a new idempotency key, for a provider may have stored the refusal under the old one. An undo that
-- waits for its first attempt goes on waiting: until then the effect that it undoes may still land. So does
-- what waited for a signal, an instant or a saga when its deadline suspended it.
create or replace function line_again(p_line outbox, p_now timestamptz) returns void
language sql volatile set search_path from current as $$
    update outbox
    set status = case when kind = 'compensation' then 'COMPENSATING' else 'EXECUTING' end,
        fence = fence + 1, failures = 0, deaths = 0, reason = null, moved_at = p_now,
        due_at = case when awaits is not null and not exists (
                              select from ticket t where t.saga_id = coalesce(root, id) and (p_line).id = any (t.parked))
                          then greatest(due_at, p_now)
                      when kind = 'reconcile' then greatest(doubt_until, p_now)
                      when kind = 'compensation' and attempt = 0 then greatest(due_at, p_now) else p_now end,
        revision = revision + ((p_line).status = 'SUSPENDED' and (p_line).doubt_until is null
                               and (p_line).kind <> 'reconcile')::integer
    where id = (p_line).id
$$;

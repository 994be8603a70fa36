-- Whether nothing of a live saga runs or could: each of its lines waits for a signal, an instant,
-- another saga or a person. One that waits for its next attempt runs.
create or replace function saga_idles(p_saga uuid) returns boolean
language sql volatile set search_path from current as $$
    select not exists (
        select from outbox o
        where (o.id = p_saga or o.root = p_saga) and o.awaits is distinct from 'lines'
          and not (o.worker is null and (o.status = 'SUSPENDED' or (o.awaits is not null and o.due_at > clock()))))
$$;

-- Has setting.pauses say whether anything is paused. Its row is locked by pauses_lock().
create or replace function pauses_note() returns void
language sql volatile set search_path from current as $$
    update setting s set pauses = not s.pauses
    where s.pauses <> exists (select from pause p where p.resumed_at is null)
$$;
